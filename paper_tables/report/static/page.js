// What the whole page shares: its data, light and dark, and links into folded places.
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const listeners = [];

  const remembered = () => {
    try { return localStorage.getItem("theme"); } catch { return null; } // a browser may keep nothing for files
  };
  const remember = (theme) => {
    try { localStorage.setItem("theme", theme); } catch { /* the choice then lasts as long as the page */ }
  };
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const ink = (method) => data.inks[method][theme()];

  // A line with its marker, as the curves of the method have it: also what tells them apart without colour.
  const SHAPES = {
    circle: "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", square: "M-3.5,-3.5h7v7h-7z", diamond: "M0,-5L4,0L0,5L-4,0z",
    "triangle-up": "M0,-4.5L4.5,3.5H-4.5z", "triangle-down": "M0,4.5L4.5,-3.5H-4.5z",
    "triangle-right": "M4.5,0L-3.5,4.5V-4.5z", "triangle-left": "M-4.5,0L3.5,4.5V-4.5z",
    cross: "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", stroke: "M-5,-1.2h10v2.4h-10z",
  };
  const swatches = () => {
    for (const place of document.querySelectorAll(".swatch")) {
      const { shape, dash } = data.inks[place.dataset.method], colour = ink(place.dataset.method);
      place.innerHTML = `<svg viewBox="-15 -6 30 12" width="30" height="12" aria-hidden="true">
        <path d="M-14,0H14" stroke="${colour}" stroke-width="1.8" stroke-dasharray="${dash.join(" ")}"/>
        <path d="${SHAPES[shape]}" fill="${colour}"/></svg>`;
    }
  };
  const turn = () => {
    button.setAttribute("aria-pressed", String(theme() === "dark"));
    swatches();
    listeners.forEach((listener) => listener());
  };
  button.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    remember(root.dataset.theme);
    turn();
  });
  dark.addEventListener("change", turn);
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();

  const unfold = () => {
    const place = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place) return;
    for (let each = place; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    place.scrollIntoView();
  };
  addEventListener("hashchange", unfold);

  window.page = { data, theme, ink, onTheme: (listener) => listeners.push(listener) };
  turn();
  unfold();
})();
