"""The contact sheet: every picture in its place, enlarged, under its label."""

from PIL import Image

from darkroom.contact_sheet import GAP, LABEL_HEIGHT, MARGIN, TILE, TITLE_HEIGHT, Row, compose


def picture(colour, size=(64, 64)):
    return Image.new("RGB", size, colour)


def test_pictures_stand_in_rows_under_their_labels():
    rows = [
        Row(label="first", pictures=[picture("red"), picture("green")]),
        Row(label="second", pictures=[picture("blue", (100, 100))]),
    ]
    sheet = compose("a title", rows)
    top = MARGIN + TITLE_HEIGHT + LABEL_HEIGHT
    middle = TILE // 2
    assert sheet.getpixel((MARGIN + middle, top + middle)) == (255, 0, 0)
    assert sheet.getpixel((MARGIN + TILE + GAP + middle, top + middle)) == (0, 128, 0)
    second = top + TILE + LABEL_HEIGHT
    assert sheet.getpixel((MARGIN + middle, second + middle)) == (0, 0, 255)
    assert sheet.getpixel((MARGIN + TILE + GAP + middle, second + middle)) == (255, 255, 255)
    label = sheet.crop((MARGIN, top - LABEL_HEIGHT, MARGIN + TILE, top))
    assert min(low for low, _ in label.getextrema()) < 128


def test_a_long_label_widens_the_sheet():
    short = compose("t", [Row(label="a", pictures=[picture("red")])])
    long = compose("t", [Row(label="a long label " * 10, pictures=[picture("red")])])
    assert long.width > short.width
    assert long.height == short.height
