"""What a person, or a screen reader, gets from the page: contrast, names, sizes."""

from typing import Any

from tests.support.browser import Browser

LEAST_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3, level AA; texts of 24 px, or bold ones of 18.7 px, may have 3."""
LEAST_CONTRAST_LARGE = 3.0

# The formula of WCAG 2.2 on computed styles. What is transparent lets its parent's ground through.
CONTRASTS = """
const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = (colour) => {
  const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a];
};
const over = ([r, g, b, a], ground) => [r, g, b].map((value, index) => value * a + ground[index] * (1 - a));
const groundOf = (node) => {
  if (!node) return [255, 255, 255];
  const own = parse(getComputedStyle(node).backgroundColor);
  return own[3] === 1 ? own.slice(0, 3) : over(own, groundOf(node.parentElement));
};
const seen = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  const box = node.getBoundingClientRect();
  const unseen = node.closest("title, desc, script, style, .unseen, .skip");
  if (!walker.currentNode.data.trim() || box.width < 2 || unseen) continue;
  const style = getComputedStyle(node);
  const ground = groundOf(node);
  const ink = over(parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color), ground);
  const [dark, bright] = [light(ink), light(ground)].sort((one, other) => one - other);
  const size = parseFloat(style.fontSize);
  seen.push([walker.currentNode.data.trim().slice(0, 40), (bright + 0.05) / (dark + 0.05),
    size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700)]);
}
return seen;
"""

# The same for what is drawn: strokes and fills against the card that they are on.
DRAWN = """
const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
  return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
};
const card = light(getComputedStyle(document.querySelector(".card")).backgroundColor);
return [".production .area", ".canary .edge", ".marks .range", ".axis"].map((selector) => {
  const drawn = light(getComputedStyle(document.querySelector(selector)).stroke);
  return [selector, (Math.max(card, drawn) + 0.05) / (Math.min(card, drawn) + 0.05)];
});
"""

MUST_HAVE_NAMES = {
    "link", "button", "image", "img", "table", "heading", "navigation", "region", "figure",
    "DisclosureTriangle", "columnheader", "rowheader",
}  # fmt: skip


def too_faint(browser: Browser) -> list[str]:
    """Texts with less contrast than WCAG's AA asks for; fails when there are none to judge."""
    seen = browser.run(CONTRASTS)
    assert len(seen) > 40
    least = {True: LEAST_CONTRAST_LARGE, False: LEAST_CONTRAST}
    return [f"{text!r}: {ratio:.2f}" for text, ratio, large in seen if ratio < least[large]]


def drawn_too_faintly(browser: Browser) -> list[str]:
    """Parts of pictures with less than 3 to 1 (success criterion 1.4.11)."""
    return [
        f"{selector}: {ratio:.2f}" for selector, ratio in browser.run(DRAWN) if ratio < LEAST_CONTRAST_LARGE
    ]


def spoken(browser: Browser) -> list[tuple[str, str]]:
    """Role and name of everything in the accessibility tree."""
    browser.command("Accessibility.enable")
    nodes: list[dict[str, Any]] = browser.command("Accessibility.getFullAXTree")["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and "role" in node
    ]


def nameless(tree: list[tuple[str, str]]) -> list[str]:
    """Roles that should say what they are, and do not."""
    return [role for role, name in tree if role in MUST_HAVE_NAMES and not name.strip()]


def beyond_the_edge(browser: Browser) -> list[str]:
    """What is wider than the window: nothing, or it would have to be scrolled sideways."""
    found: list[str] = browser.run(
        """
        const wide = document.documentElement.clientWidth;
        const beyond = [...document.querySelectorAll("body *")].filter((node) =>
          !node.closest(".unseen, .skip") && node.getBoundingClientRect().right > wide + 0.5);
        const name = (node) => `${node.tagName}.${node.getAttribute("class")}: ${node.textContent}`;
        const whole = document.documentElement.scrollWidth > wide ? ["the document"] : [];
        return [...whole, ...beyond.map(name)];
        """
    )
    return found
