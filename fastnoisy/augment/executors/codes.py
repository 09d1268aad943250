"""The numbers that stand for operations and steps in a program's rows, and what stands where in a row."""

OPERATIONS = (
    "identity", "autocontrast", "equalize", "invert", "posterize", "solarize", "solarize_add", "brightness", "contrast",
    "color", "sharpness", "hue", "rotate", "shear_x", "shear_y", "translate_x", "translate_y", "cutout_abs",
)  # fmt: skip
(
    IDENTITY, AUTOCONTRAST, EQUALIZE, INVERT, POSTERIZE, SOLARIZE, SOLARIZE_ADD, BRIGHTNESS, CONTRAST,
    COLOR, SHARPNESS, HUE, ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, CUTOUT_ABS,
) = range(len(OPERATIONS))  # fmt: skip

(
    SINGLE, RANDAUGMENT, TORCHVISION_RANDAUGMENT, AUTOAUGMENT, COLOR_JITTER, AUGMIX, GOOGLE_AUGMIX,
    RANDOM_CROP, CENTER_CROP, HFLIP, RANDOM_RESIZED_CROP, RESIZE, RESIZE_SHORTER, CUTOUT, RANDOM_ERASING,
) = range(15)  # fmt: skip

# Columns of a program's row. All rows have the first two, policies the next five; of a kind's own those follow. A PLACE
# is where a table begins in the program's integers or floats.
KIND, POSITION = range(2)
COUNT, NUM_NAMES, NAMES_PLACE, VALUES_PLACE, ROTATIONS_PLACE = range(2, 7)  # count: of operations, or of chains
ENTRY, ENTRY_BINS = range(7, 9)  # torchvision_randaugment
THRESHOLDS_PLACE, ENTRIES_PLACE, BINS = range(7, 10)  # autoaugment, whose names are the pairs' operations
DEPTH, LONGEST, SEVERITY = range(7, 10)  # augmix
BEGIN, HALF = range(9, 11)  # google_augmix, after depth and longest
ORDERS_PLACE, CELLS_PLACE = range(7, 9)  # color_jitter
OPERATION, BILINEAR, RED, GREEN, BLUE, VALUE_PLACE, COSINE, SINE = range(2, 10)  # single
SIZE = 2  # crops and resizes; the reach of cutout
PADDING = 3  # random_crop
CROP = 3  # resize_shorter: the side of the crop after it, or 0
THRESHOLD = 2  # hflip, random_erasing
LOW, HIGH, RATIOS_PLACE = range(3, 6)  # random_resized_crop, random_erasing
NARROWEST, FLATTEST, WIDEST = range(6, 9)  # random_resized_crop
COLUMNS = 11
