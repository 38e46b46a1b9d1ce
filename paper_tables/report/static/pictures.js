// The picture grid: one prompt and seed, a method a line, and the steps of training under a slider.
(() => {
  const { data } = window.page;
  const form = document.getElementById("chooser"), grid = document.getElementById("grid");
  if (!form) return;
  const fields = form.elements;
  const make = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  // The base model's pictures belong to every task of its backbone.
  const task = () => fields.group.value.split("/")[1];
  const group = () => data.pictures.filter((strip) => `${strip.backbone}/${strip.task || task()}` === fields.group.value);
  const steps = () => [...new Set(group().flatMap((strip) => strip.updates))].sort((a, b) => a - b);
  const promptsOf = (strips) => new Map(strips.flatMap((strip) => strip.prompts.map((prompt) => [prompt.id, prompt.text])));
  const fill = () => {
    const before = fields.prompt.value;
    fields.prompt.replaceChildren(...[...promptsOf(group())].map(([id, text]) => make("option", { value: id, textContent: text })));
    if ([...fields.prompt.options].some((option) => option.value === before)) fields.prompt.value = before;
    else fields.prompt.value = fields.group.selectedOptions[0].dataset.prompt;
    fields.step.max = steps().length - 1;
    fields.step.value = fields.step.max;
  };
  // One picture out of its run's strip, by moving the strip behind a window.
  const windowOn = (strip, prompt, column, words) => {
    const row = strip.prompts.findIndex((each) => each.id === prompt);
    const place = make("span", { className: "picture" });
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", words);
    const across = strip.updates.length, down = strip.prompts.length;
    place.style.backgroundImage = `url("pictures/${encodeURIComponent(strip.file)}")`;
    place.style.backgroundSize = `${across * 100}% ${down * 100}%`;
    place.style.backgroundPosition = `${across > 1 ? (100 * column) / (across - 1) : 0}% ${down > 1 ? (100 * row) / (down - 1) : 0}%`;
    return [place, strip.scores[row][column]];
  };
  const scoresOf = (scores) => make("dl", {}, ...Object.entries(scores).flatMap(([name, value]) => {
    if (name !== task() && data.proxies.includes(name)) return [];
    const className = name === task() ? "own" : "";
    return [make("dt", { className, textContent: name }), make("dd", { className, textContent: value.toFixed(2) })];
  }));
  const figure = (strip, update) => {
    const column = strip.updates.indexOf(update);
    const words = `${strip.task ? strip.method : "base model"} after ${update} updates: ${fields.prompt.selectedOptions[0]?.textContent}`;
    const [place, scores] = windowOn(strip, fields.prompt.value, column, words);
    return make("figure", {}, place, make("figcaption", {}, make("span", { className: "when" }, `update ${update}, `, make("a", { href: `#${strip.place}`, textContent: `seed ${strip.seed}` })), scoresOf(scores)));
  };
  const line = (strip, update) => {
    const shown = fields.all.checked ? strip.updates : [strip.updates.filter((each) => each <= update).at(-1) ?? strip.updates[0]];
    const strips = make("div", { className: "strip", tabIndex: fields.all.checked ? 0 : -1 }, ...shown.map((each) => figure(strip, each)));
    if (fields.all.checked) { strips.setAttribute("role", "region"); strips.setAttribute("aria-label", `All steps of ${strip.task ? strip.method : "the base model"}, seed ${strip.seed}`); } else strips.removeAttribute("tabindex");
    return make("section", {}, make("h3", { textContent: strip.task ? strip.method : "base model" }), strips);
  };
  const draw = () => {
    const update = steps()[fields.step.value];
    document.getElementById("at-step").textContent = fields.all.checked ? "all" : `update ${update}`;
    fields.step.setAttribute("aria-valuetext", `update ${update}`);
    fields.step.disabled = fields.all.checked;
    grid.classList.toggle("every", fields.all.checked);
    const holding = group().filter((strip) => strip.prompts.some((prompt) => prompt.id === fields.prompt.value));
    grid.replaceChildren(...holding.map((strip) => line(strip, update)));
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => { if (event.target.name === "group") fill(); draw(); });
  fill();
  draw();
})();
