"""Text is dragged and pasted as in any field; files alone are read for their parameters."""

import base64
import io

import pytest
from PIL import Image
from playwright.sync_api import expect

FIELD = "(field, [from, to]) => field.setSelectionRange(from, to)"
#: The middle of the letters from one place to another, as far as one line goes.
PLACE = """(field, at) => {
  const [style, box] = [getComputedStyle(field), field.getBoundingClientRect()];
  const pen = document.createElement('canvas').getContext('2d');
  pen.font = style.font;
  const [left, top, line] = ['paddingLeft', 'paddingTop', 'lineHeight'].map((name) => parseFloat(style[name]));
  const { width } = pen.measureText(field.value.slice(0, at));
  return [box.left + field.clientLeft + left + width, box.top + field.clientTop + top + line / 2];
}"""
FALL = """([kind, types]) => {
  const data = new DataTransfer();
  for (const type of types) {
    if (type === 'Files') data.items.add(new File(['x'], 'a.png', { type: 'image/png' }));
    else data.setData(type, 'a red mug');
  }
  const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.getElementById('prompt').dispatchEvent(event);
  return [event.defaultPrevented, document.body.classList.contains('dropping')];
}"""
PASTE = """([text, base64]) => {
  const data = new DataTransfer();
  if (text) data.setData('text/plain', text);
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  data.items.add(new File([bytes], 'a.png', { type: 'image/png' }));
  const event = new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true });
  document.getElementById('prompt').dispatchEvent(event);
}"""
LISTEN = """() => {
  const toast = document.getElementById('toast');
  window.said = [];
  new MutationObserver(() => window.said.push(toast.textContent)).observe(toast, { childList: true });
}"""


def test_a_word_is_dragged_to_another_place_in_the_field(home):
    home.fill("#prompt", "mug red ")
    field = home.locator("#prompt")
    field.evaluate(FIELD, [0, 4])
    x, y = field.evaluate(PLACE, 2)
    home.mouse.move(x, y)
    home.mouse.down()
    for at in (4, 6, 8):
        x, y = field.evaluate(PLACE, at)
        home.mouse.move(x, y, steps=4)
    home.mouse.up()

    expect(field).to_have_value("red mug ")


@pytest.mark.parametrize("types", [["text/plain"], ["text/plain", "text/html"], ["text/uri-list"]])
def test_what_is_no_file_is_left_to_the_browser(home, types):
    for kind in ("dragenter", "dragover", "drop"):
        assert home.evaluate(FALL, [kind, types]) == [False, False]


def test_a_file_is_taken_and_the_page_says_so_while_it_hangs_over_it(home):
    assert home.evaluate(FALL, ["dragenter", ["Files"]]) == [True, True]
    assert home.evaluate(FALL, ["dragover", ["Files"]]) == [True, True]
    assert home.evaluate(FALL, ["dragleave", ["Files"]]) == [True, False]


def test_a_paste_of_text_with_its_picture_is_text(home):
    """Spreadsheets copy a picture of the cells beside their text."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    picture = base64.b64encode(out.getvalue()).decode()
    home.evaluate(LISTEN)

    home.evaluate(PASTE, ["a red mug", picture])
    home.evaluate(PASTE, ["", picture])  # what comes of the one before it came earlier

    expect(home.locator("#toast")).to_contain_text("carries no zimg parameters")
    assert len(home.evaluate("() => window.said")) == 1
