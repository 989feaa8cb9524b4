// What the theme gets wrong: the menu on a phone, and names of controls for people who listen to a page or speak to it.

// The theme leaves a bar at the top whose hidden menu buttons its scripts take for the real ones, so that on a phone the
// menu would not open.  It is emptied when the page is parsed, before those deferred scripts run; they measure the bar itself.
document.addEventListener("readystatechange", () => document.getElementById("pst-header")?.replaceChildren(), { once: true });

document.addEventListener("DOMContentLoaded", () => {
  // A control's name must hold its visible words: the search button reads "Search Ctrl K", a folded cell "Show code cell
  // source", and a label of other words hides that.
  for (const control of document.querySelectorAll(".search-button-field[aria-label], summary[aria-label]"))
    if (control.textContent.trim()) control.removeAttribute("aria-label");

  // The arrows that unfold a branch of the menu have no name; the link beside each has.
  for (const arrow of document.querySelectorAll(".bd-links li > details > summary")) {
    const link = arrow.closest("li").querySelector("a");
    arrow.setAttribute("aria-label", `Pages under ${link?.textContent.trim() ?? "this"}`);
  }

  // The icons of the colour switch carry titles beside the button's own label; the icon script may draw them late.
  const hush = (button) => {
    button.querySelectorAll("i[title]").forEach((icon) => icon.removeAttribute("title"));
    button.querySelectorAll("svg title").forEach((title) => title.remove());
    button.querySelectorAll("svg").forEach((icon) => icon.setAttribute("aria-hidden", "true"));
  };
  for (const button of document.querySelectorAll(".theme-switch-button")) {
    button.setAttribute("aria-label", "Colour mode");
    button.dataset.bsTitle = "Colour mode";
    hush(button);
    new MutationObserver(() => hush(button)).observe(button, { childList: true, subtree: true });
  }
});

// A box that scrolls sideways must be reachable by keyboard; its width is known once everything is drawn.
window.addEventListener("load", () => {
  for (const box of document.querySelectorAll(".bd-article :is(.pst-scrollable-table-container, .cell_output > .output, pre)"))
    if (box.scrollWidth > box.clientWidth && !box.hasAttribute("tabindex")) box.tabIndex = 0;
});
