"use strict";
// Shows rows of one kind alone, and those that have a text.
(() => {
  const find = (name) => document.getElementById(name);
  const cards = [...document.querySelectorAll(".card")];
  const choose = () => {
    const kind = find("kind").value, words = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of cards) {
      const text = words.length ? card.textContent.toLowerCase() : "";
      const fits = (!kind || card.dataset.kind === kind) && words.every((word) => text.includes(word));
      card.hidden = !fits;
      shown += fits;
    }
    find("status").textContent = `${shown} of ${cards.length} changed rows`;
  };
  if (!cards.length) return;
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("kind").addEventListener("change", choose);
  find("search").addEventListener("input", choose);
  choose();
})();
