"""List what can be trained; print a recipe in full; check one of your own."""

from __future__ import annotations

from pathlib import Path

import click

from fastnoisy.cli._group import ListGroup, say, write

_EPILOG = """\b
Examples:
  fastnoisy recipes
  fastnoisy recipes show cifar100-gjs noise=asymmetric:0.4
  fastnoisy recipes show cifar10-ce suite=alasca > mine.toml
  fastnoisy recipes check mine.toml
"""


@click.group(cls=ListGroup, prints="recipe", invoke_without_command=True, epilog=_EPILOG)
@click.pass_context
def command(context: click.Context) -> None:
    """List all recipes, a line each; `show` prints one in full, `check` validates one of your own."""
    if context.invoked_subcommand is None:
        _list()


@command.command(short_help="Print a recipe in full, with what the papers report for it.")
@click.argument("name")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def show(name: str, overrides: tuple[str, ...]) -> None:
    """Print a recipe as `train` would run it, every key written out, with what the papers report for it.

    The output is a configuration of its own: saved to a file, it can be changed and trained.
    """
    from fastnoisy import config, methods, recipes
    from fastnoisy.analysis import published
    from fastnoisy.training import setup

    settings = setup.resolve(name, overrides)
    c = settings.config
    data, _, _ = c.recipe.partition("-")
    if not recipes.is_path(name):
        say(f"# {c.recipe}: {recipes.read(data)['summary']}")
        say(f"# {_first_line(methods.find(settings.method.name))}")
        say(f"# suite {c.suite}; {c.row or 'numbers of the recipe itself'}")
        if settings.told:
            say(f"# chosen for this machine: {settings.told}; data.store=STORE counts the images of a store")
        for cell in published.find(settings):
            say(f"# published: {cell}")
    write(config.to_toml(c.model_dump()))


@command.command(short_help="Validate a configuration file of your own.")
@click.argument("path", type=click.Path(path_type=Path))
def check(path: Path) -> None:
    """Validate a configuration file of your own; every problem is named at once."""
    from fastnoisy.training import setup

    settings = setup.resolve(f"{path.parent}/{path.name}", ()).config
    say(
        f"{path} is sound: method {settings.method['name']}, model {settings.model['name']}, noise {settings.noise}, "
        f"{settings.epochs} epochs, batch {settings.batch_size}, lr {settings.optim.lr:g}"
    )
    if settings.data.store and not Path(settings.data.store).is_dir():
        say(f"note: its data set {settings.data.store} is not here; name one with --data")


def _list() -> None:
    from fastnoisy import methods, recipes
    from fastnoisy.training import setup

    for data in recipes.data_names():
        say(f"{data}: {recipes.read(data)['summary']}")
        for name in methods.names():
            settings = setup.resolve(f"{data}-{name}", ())
            c, fitted = settings.config, "epochs=" in settings.told  # to the images of a store, which none is here
            about = f"suite {c.suite:7} {c.model['name']:21} {'auto' if fitted else c.epochs:>4} epochs"
            say(f"  {data + '-' + name:18} {about}  {_first_line(methods.find(name))}")
    say()
    say("On all but digits any method takes suite=nrd or suite=alasca; noise=KIND:RATE goes with all of them.")


def _first_line(method: type) -> str:
    return (method.__doc__ or "").splitlines()[0]
