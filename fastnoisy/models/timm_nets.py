"""timm's networks, under timm's own names: `resnet50`, `convnext_tiny`, or with weights named, `resnet50.tv_in1k`.

timm takes seconds to import, so it is imported when such a network is asked for, not before.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from fastnoisy.errors import FastnoisyError
from fastnoisy.models.base import Backbone
from fastnoisy.models.weights import absent, check_digest, find, packaged


def check_name(name: str, others: Iterable[str] = ()) -> None:
    """Whether timm has a network of this name.

    Args:
        others: names outside of timm that may have been meant.

    Raises:
        FastnoisyError: no such network or no such weights; says which names are near.
    """
    import timm

    known, ours = timm.list_models(), sorted(others)
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        near = difflib.get_close_matches(name, [*ours, *known], n=4, cutoff=0.6)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise FastnoisyError(
            f"unknown model {name!r}: {guess}known: {', '.join(ours)}, and every model of timm {timm.__version__}"
        )
    tagged = timm.list_models(f"{architecture}.*", include_tags=True)
    if tag and name not in tagged:
        near = difflib.get_close_matches(name, tagged, n=4, cutoff=0.6)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise FastnoisyError(
            f"timm has no weights {tag!r} of {architecture}: {guess}known: {', '.join(tagged) or 'none'}"
        )


class TimmBackbone(Backbone):
    """A whole timm model: its own `forward` gives the main classifier's logits.

    A stage is the last feature map of each reduction that timm's `feature_info` names, the last stage what
    `forward_features` gives; where that is no map (tokens of a transformer), it is handed to the classifier as it is. A
    model
    with fewer than two reductions (plain vision transformers) or without `forward_intermediates` is one stage: it
    trains as any other, and refuses sub-classifiers.

    Sub-classifiers stand at a reduction of 4 or more unless stages are named: on a ResNet-50's stem, at 2, the one kxk
    convolution would have 67 million weights.

    Args:
        size: (height, width) that the model is bound to; None: any.
    """

    min_tap_reduction = 4

    def __init__(self, name: str, model: nn.Module, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.name, self.model, self.size = name, model, size
        found: Any = getattr(model, "feature_info", None)
        reductions = [int(entry["reduction"]) for entry in found] if isinstance(found, list) else []
        places = {reduction: place for place, reduction in enumerate(reductions)}  # the last entry of each
        whole = hasattr(model, "forward_intermediates") and len(places) > 1 and reductions == sorted(reductions)
        self.places = list(places.values()) if whole else []
        channels = [int(found[place]["num_chs"]) for place in self.places[:-1]]
        self.stage_channels = (*channels, int(model.num_features))  # type: ignore[arg-type]
        self.stage_reductions = tuple(places) if whole else (max(reductions, default=1),)
        self.nhwc = getattr(model, "output_fmt", None) == "NHWC"
        self.frozen = False
        self.norms_frozen = False

    @property
    def head(self) -> nn.Module:
        """timm's classifier; see `Backbone.head`."""
        found: nn.Module = self.model.get_classifier()  # type: ignore[operator]
        return found

    def treat(self, options: Mapping[str, Any]) -> None:
        """Do what the options `freeze`, `freeze_norms` and `head` of `timm_backbone` say."""
        if options.get("freeze"):
            self.freeze()
        if options.get("freeze_norms"):
            self.freeze_norms()
        self.fresh_head = options.get("head") != "regression"

    def freeze(self) -> None:
        """Keep all but the classifier as it is, from now on: weights, running statistics, dropout switched off."""
        self.frozen = True
        self.requires_grad_(False)
        self.head.requires_grad_(True)
        self.train(self.training)

    def freeze_norms(self) -> None:
        """Normalise by the running statistics as they are, from now on, in training too; their scales still train."""
        self.norms_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Train mode; of a frozen network it reaches the classifier alone, and no frozen norm."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
            self.head.train(mode)
        if self.norms_frozen:
            for module in self.model.modules():
                if isinstance(getattr(module, "running_var", None), Tensor):  # also timm's own, such as EvoNorm
                    module.eval()
        return self

    def forward_stages(self, images: Tensor) -> Iterator[Tensor]:
        """See `Backbone.forward_stages`; sizes that do not divide are rounded as the model does.

        Raises:
            FastnoisyError: images of another size than the model is bound to.
        """
        self._check_size(images)
        model: Any = self.model
        if not self.places:
            yield model.forward_features(images)
            return
        # With the last place among them, since some models (hiera) run no further than the deepest place that is asked
        # for.
        last, maps = model.forward_intermediates(images, indices=self.places)
        yield from maps[:-1]
        yield last.permute(0, 3, 1, 2) if self.nhwc else last

    def classify(self, last: Tensor) -> Tensor:
        """See `Backbone.classify`."""
        model: Any = self.model
        return model.forward_head(last.permute(0, 2, 3, 1) if self.places and self.nhwc else last)

    def forward(self, images: Tensor) -> Tensor:
        """timm's own forward."""
        self._check_size(images)
        return self.model(images)

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if self.size is not None and (height, width) != self.size:
            raise FastnoisyError(
                f"{self.name} takes images of {self.size[0]} x {self.size[1]}, got {height} x {width}",
                f"Set model.img_size={height}, or resize the images in every view, for example "
                f'views.eval="resize({self.size[0]}) | normalize"',
            )


class InceptionResNetV2(TimmBackbone):
    """timm's `inception_resnet_v2` in four stages: after the 35x35, 17x17 and 8x8 blocks (320, 1,088 and 2,080
    channels) and at the end (1,536). Sub-classifiers have a 3x3 convolution of stride 3 at each (methods.md 2.5,
    ALASCA's code).
    """

    head_kernel = 3

    def __init__(self, name: str, model: nn.Module, size: tuple[int, int] | None) -> None:
        super().__init__(name, model, size)
        self.stage_channels = (320, 1088, 2080, 1536)
        self.stage_reductions = (8, 16, 32, 32)

    def forward_stages(self, images: Tensor) -> Iterator[Tensor]:
        """See `Backbone.forward_stages`."""
        self._check_size(images)
        m: Any = self.model
        x = m.conv2d_2b(m.conv2d_2a(m.conv2d_1a(images)))
        x = m.maxpool_5a(m.conv2d_4a(m.conv2d_3b(m.maxpool_3a(x))))
        x = m.repeat(m.mixed_5b(x))
        yield x
        x = m.repeat_1(m.mixed_6a(x))
        yield x
        x = m.repeat_2(m.mixed_7a(x))
        yield x
        yield m.conv2d_7b(m.block8(x))

    def classify(self, last: Tensor) -> Tensor:
        """See `Backbone.classify`."""
        model: Any = self.model
        return model.forward_head(last)


def timm_backbone(
    name: str,
    num_classes: int,
    pretrained: bool = False,
    weights: str = "",
    sha256: str = "",
    download: bool = False,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    img_size: int | None = None,
    freeze: bool = False,
    freeze_norms: bool = False,
    head: str = "fresh",
) -> Backbone:
    """timm's model of a name, with timm's init.

    Args:
        pretrained: start from timm's weights of that name (`resnet50.tv_in1k` says which; without a tag, timm's
            default), which must lie in timm's cache; those of `tf_efficientnet_lite0` are installed with fastnoisy.
            The classifier always starts fresh, from torch's global generator, also where the weights bring one for as
            many classes: it was trained on clean labels.
        weights: a file of these weights instead (.safetensors, .pth), which implies `pretrained`.
        sha256: of the file of weights; another file is refused. A run writes down what it started from.
        download: fetch the weights where the cache does not hold them; nothing is fetched otherwise.
        drop_rate, drop_path_rate: of the classifier's dropout and of stochastic depth; None: timm's default.
        img_size: height and width for models that are bound to one size (transformers); None: timm's default.
        freeze: train the classifier alone.
        freeze_norms: normalise by the pretrained running statistics in training too; scales and biases still train. Of
            a few hundred steps on a few thousand images, statistics of their own are worse, and not what a head that
            starts from a regression was fitted to.
        head: how a run starts the classifier: `fresh`, or `regression`: fitted to the features of its training images.

    Raises:
        FastnoisyError: the weights do not exist, are not on this machine, or cannot be fetched or read.
        ValueError: options that the model refuses.
    """
    import timm
    from timm.models import PretrainedCfg

    if not isinstance(pretrained, bool):
        raise ValueError(f"pretrained must be true or false, got {pretrained!r}")
    for option, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
        if rate is not None and not 0 <= rate < 1:
            raise ValueError(f"{option} must be at least 0 and below 1, got {rate!r}")
    cfg = timm.get_pretrained_cfg(name) or PretrainedCfg()
    if img_size is not None and not cfg.fixed_input_size:
        raise ValueError(f"{name} takes images of any size; leave img_size out")
    pretrained = pretrained or bool(weights)
    if freeze and not pretrained:
        raise ValueError("freeze=true keeps the network as it is but for its classifier: it needs pretrained=true")
    if freeze_norms and not pretrained:
        raise ValueError("freeze_norms=true keeps statistics of a pretrained network: it needs pretrained=true")
    if head not in ("fresh", "regression"):
        raise ValueError(f"head must be fresh or regression, got {head!r}")
    if head == "regression" and not pretrained:
        raise ValueError("head=regression is fitted to the features of a pretrained network: set pretrained=true")
    if pretrained and not weights and not cfg.has_weights:
        raise FastnoisyError(f"timm has no pretrained weights of {name}", "Set model.pretrained=false")
    installed = packaged(name, weights) if pretrained else None
    file = find(name, cfg, weights) if pretrained and installed is None else None
    if pretrained and file is None and installed is None and not download:
        raise absent(name, cfg)
    try:
        model: Any = timm.create_model(
            name,
            pretrained=pretrained and installed is None,
            pretrained_cfg_overlay={"file": str(file)} if file is not None else None,
            num_classes=num_classes,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            img_size=img_size,
        )
    except Exception as error:  # models, and the libraries that fetch weights, have a class each for what can go wrong
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if not pretrained or isinstance(error, TypeError):  # TypeError: an option that this model does not have
            raise ValueError(reason) from error
        if file is not None:
            raise FastnoisyError(
                f"{name} cannot start from {file}: {reason}", "Is it whole, and of this very network? Copy it again"
            ) from error
        raise FastnoisyError(
            f"{name} could not be built with its pretrained weights: {reason}",
            "Point HF_HOME at a cache that holds them, connect to the network, or set model.pretrained=false",
        ) from error
    if installed is not None:
        installed.load(model)
    if pretrained and sha256:
        check_digest(name, weights, sha256)
    if pretrained and cfg.num_classes == num_classes:
        model.reset_classifier(num_classes)
    size = cfg.input_size[-2:] if cfg.fixed_input_size else None
    kind = InceptionResNetV2 if name.partition(".")[0] == "inception_resnet_v2" else TimmBackbone
    net = kind(name, model, size if img_size is None else (img_size, img_size))
    net.treat({"freeze": freeze, "freeze_norms": freeze_norms, "head": head})
    return net
