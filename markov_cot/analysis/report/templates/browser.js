"use strict";
for (const browser of document.querySelectorAll(".browser")) {
  const filters = browser.querySelector(".filters");
  const shown = filters.querySelector("output");
  const cots = [...browser.querySelectorAll(".cot")];
  const groups = [...browser.querySelectorAll(".group")];
  const texts = cots.map((cot) => cot.textContent.toLowerCase());
  const apply = () => {
    const wanted = Object.fromEntries(new FormData(filters));
    const text = wanted.text.toLowerCase();
    const from = parseFloat(wanted.from), to = parseFloat(wanted.to);
    let count = 0;
    cots.forEach((cot, i) => {
      const reward = parseFloat(cot.dataset.reward);
      const fits = (!wanted.right || cot.dataset.right === wanted.right)
        && (!wanted.step || cot.dataset.step === wanted.step)
        && !(reward < from) && !(reward > to)
        && (!text || texts[i].includes(text));
      cot.hidden = !fits;
      count += fits;
    });
    const filtered = wanted.right || wanted.step || text || wanted.from || wanted.to;
    for (const group of groups) {
      const left = group.querySelector(".cot:not([hidden])");
      group.hidden = !left;
      if (filtered && left) group.open = true;
    }
    shown.textContent = count + " of " + cots.length;
  };
  const steps = [...new Set(cots.map((cot) => cot.dataset.step))];
  const choice = filters.elements.step;
  for (const step of steps) choice.add(new Option(step, step));
  filters.addEventListener("input", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.hidden = false;
  apply();
}
