"use strict";
// All values of the data are set as text (`textContent`), never as markup.
(() => {
  const find = (name) => document.getElementById(name);
  const data = JSON.parse(find("data").textContent);
  const TOGETHER = 40, LONG = 420, KINDS = { ok: "good", kept: "kept", truncated: "part" };
  const whole = new Intl.NumberFormat("en");
  const by = (role) => data.columns.filter((column) => column.role === role);
  const scores = by("score"), answers = by("answer"), sources = by("source"), remarks = by("remark"), others = by("other");
  const languages = new Map(remarks.filter((one) => one.of && one.label === `${one.of}_language`).map((one) => [one.of, one.name]));
  const thresholds = new Map(scores.map((column) => [column.name, column.threshold]));
  const state = { outcomes: new Set(), words: [], reason: -1, flag: "", order: "" };
  let shown = [], built = 0;

  function make(tag, name, text) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined && text !== null) element.textContent = text;
    return element;
  }
  const value = (name, row) => (data.values[name] || [])[row];
  const outcome = (row) => data.outcomes[data.outcome[row]].name;
  const weight = (row) => data.outcomes[data.outcome[row]].weight;
  const isOver = (column, row) => { const p = value(column.name, row); return p !== null && p !== undefined && p >= thresholds.get(column.name); };
  const isFlagged = (row) => scores.some((column) => isOver(column, row));
  const wasFlagged = (row) => scores.some((column) => { const p = value(column.name, row); return p !== null && p !== undefined && p >= column.threshold; });
  const plain = (text) => Array.isArray(text) ? text.join(", ") : text === null || text === undefined ? "" : String(text);

  // Images: each script element is parsed when the first of its rows is shown.
  const imageScripts = document.querySelectorAll("script.images"), parsed = [];
  function imageOf(row) {
    const group = Math.floor(row / data.together);
    if (parsed[group] === undefined) parsed[group] = JSON.parse(imageScripts[group].textContent);
    return parsed[group][row % data.together];
  }

  // What is searched, made when it is first needed.
  let searched = null;
  function searchable(row) {
    if (searched === null) searched = [];
    if (searched[row] === undefined) {
      const texts = data.columns.map((column) => plain(value(column.name, row)));
      searched[row] = [data.row_key[row], data.error[row] || "", outcome(row), ...texts].join("\n").toLowerCase();
    }
    return searched[row];
  }

  function fits(row) {
    if (state.outcomes.size && !state.outcomes.has(data.outcome[row])) return false;
    if (state.reason >= 0 && data.reason[row] !== state.reason) return false;
    if (state.flag === "yes" && !isFlagged(row)) return false;
    if (state.flag === "no" && isFlagged(row)) return false;
    if (state.flag === "moved" && isFlagged(row) === wasFlagged(row)) return false;
    return state.words.every((word) => searchable(row).includes(word));
  }

  const ORDERS = [["", "as in OUTPUT", null]];
  for (const column of scores) ORDERS.push([`score:${column.name}`, `highest ${column.label}`, (row) => -(value(column.name, row) ?? -1)]);
  for (const column of remarks.filter((one) => one.label === "quality")) ORDERS.push([`low:${column.name}`, `lowest quality of ${column.of}`, (row) => value(column.name, row) ?? Infinity]);
  if (answers.length) {
    const length = (row) => answers.reduce((sum, column) => sum + plain(value(column.name, row)).length, 0);
    ORDERS.push(["long", "longest answers", (row) => -length(row)], ["short", "shortest answers", length]);
  }
  ORDERS.push(["out", "most tokens of the answer", (row) => -(data.output_tokens[row] ?? -1)], ["in", "most tokens of the prompt", (row) => -(data.prompt_tokens[row] ?? -1)]);

  function select() {
    shown = [];
    let rows = 0;
    for (let row = 0; row < data.count; row++) if (fits(row)) { shown.push(row); rows += weight(row); }
    const key = ORDERS.find((order) => order[0] === state.order)[2];
    if (key) {
      const keys = new Map(shown.map((row) => [row, key(row)]));
      shown.sort((one, other) => keys.get(one) - keys.get(other) || one - other);
    }
    const list = find("rows");
    list.textContent = "";
    built = 0;
    const all = data.outcomes.every((each) => each.weight === 1 || each.rows === 0);
    find("status").textContent = `${whole.format(shown.length)} of ${whole.format(data.count)} rows`
      + (all ? "" : `, which stand for about ${whole.format(Math.round(rows))} in OUTPUT`)
      + (state.reason >= 0 ? "; of one reason of failure" : "");
    more();
  }

  function more() {
    const list = document.createDocumentFragment();
    const end = Math.min(built + TOGETHER, shown.length);
    for (; built < end; built++) list.append(card(shown[built]));
    find("rows").append(list);
    find("more").hidden = built >= shown.length;
  }

  function card(row) {
    const article = make("article", "card"), head = make("header"), inside = make("div", "inside"), texts = make("div", "texts");
    article.tabIndex = -1;
    article.dataset.row = row;
    const name = plain(data.naming && value(data.naming, row)) || data.row_key[row];
    const title = make("h3", "", name.length > 200 ? `…${name.slice(-199)}` : name);
    title.dir = "auto";
    head.append(title, make("span", `badge ${KINDS[outcome(row)] || "bad"}`, outcome(row)));
    article.append(head, inside);
    if (data.images) inside.append(shot(row, name));
    for (const column of sources) texts.append(text(column, row, "text source"));
    for (const column of answers) texts.append(text(column, row, "text"));
    if (scores.length) texts.append(scoreList(row));
    if (data.error[row]) { const error = make("p", "error", data.error[row]); error.dir = "auto"; texts.append(error); }
    inside.append(texts);
    article.append(rest(row));
    return article;
  }

  function shot(row, name) {
    const figure = make("figure", "shot"), size = data.images[row];
    if (typeof size === "string") {
      figure.append(make("span", "none", `No image: ${size}`));
      return figure;
    }
    const image = make("img");
    image.width = size[0];
    image.height = size[1];
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = `The image of ${name.slice(-80)}`;
    image.src = imageOf(row);
    figure.append(image);
    return figure;
  }

  function text(column, row, name) {
    const section = make("section", name), content = value(column.name, row);
    const language = column.language || (languages.has(column.name) ? value(languages.get(column.name), row) : null);
    section.append(make("h4", "", column.label + (language ? ` (${language})` : "")));
    if (Array.isArray(content)) {
      const list = make("ul");
      for (const item of content) { const entry = make("li", "", item); entry.dir = "auto"; list.append(entry); }
      section.append(list);
    } else {
      section.append(...said(content, language, ((data.cut[column.name] || {})[row]) || 0));
    }
    for (const remark of remarks.filter((one) => one.of === column.name)) {
      const about = value(remark.name, row);
      if (about === null || about === undefined || about === "ok" || (Array.isArray(about) && !about.length) || plain(about) === "") continue;
      const line = make("p", "remark", `${remark.label.replaceAll("_", " ")}: ${plain(about).slice(0, 500)}`);
      line.dir = "auto";
      section.append(line);
    }
    return section;
  }

  function said(content, language, missing) {
    const none = content === null || content === undefined, body = plain(content);
    const paragraph = make("p", none ? "said soft" : "said", none ? "none" : body.length > LONG ? `${cut(body)}…` : body);
    paragraph.dir = "auto";
    if (language && !none) paragraph.lang = language;
    if (body.length <= LONG && !missing) return [paragraph];
    const total = whole.format(body.length + missing), found = [paragraph];
    if (body.length > LONG) {
      const button = make("button", "", `Show all ${total} characters`);
      button.type = "button";
      button.ariaExpanded = "false";
      button.addEventListener("click", () => {
        const open = button.ariaExpanded === "false";
        paragraph.textContent = open ? body : `${cut(body)}…`;
        button.ariaExpanded = String(open);
        button.textContent = open ? "Show less" : `Show all ${total} characters`;
      });
      found.push(button);
    }
    if (missing) found.push(make("p", "remark", `${whole.format(missing)} of its ${total} characters are in OUTPUT alone.`));
    return found;
  }
  // Not in the middle of a character that is two units of UTF-16.
  const cut = (body) => body.slice(0, /[\ud800-\udbff]/.test(body[LONG - 1]) ? LONG - 1 : LONG);

  function scoreList(row) {
    const list = make("dl", "scores");
    for (const column of scores) {
      const p = value(column.name, row), line = make("div", "score"), gauge = make("dd", "gauge"), bar = make("i");
      line.dataset.column = column.name;
      bar.style.setProperty("--value", p ?? 0);
      gauge.append(bar);
      gauge.ariaHidden = "true";
      line.append(make("dt", "", column.label), gauge, make("dd", "", p === null || p === undefined ? "none" : p.toFixed(3)));
      line.classList.toggle("over", isOver(column, row));
      list.append(line);
    }
    return list;
  }

  function rest(row) {
    const details = make("details");
    details.append(make("summary", "", "All columns"));
    details.addEventListener("toggle", () => {
      if (!details.open || details.children.length > 1) return;
      const list = make("dl", "pairs");
      const entries = [["row_key", data.row_key[row]], ["prompt_tokens", data.prompt_tokens[row]], ["output_tokens", data.output_tokens[row]]];
      for (const column of [...others, ...remarks, ...sources, ...answers, ...scores]) entries.push([column.name, value(column.name, row)]);
      for (const [name, content] of entries) {
        if (content === null || content === undefined) continue;
        const body = plain(content), cell = make("dd", "", body.length > 2000 ? `${body.slice(0, 2000)}…` : body);
        cell.dir = "auto";
        list.append(make("dt", "", name), cell);
      }
      details.append(list);
    });
    return details;
  }

  // Thresholds
  const SVG = "http://www.w3.org/2000/svg";
  function thresholdLine(column, place) {
    const box = make("div", "threshold"), line = make("div", "line"), label = make("label", "", column.label), number = make("output");
    const input = make("input"), count = make("p", "small soft");
    input.type = "range"; input.min = "0"; input.max = "1"; input.step = "0.01"; input.id = `threshold-${place}`;
    label.htmlFor = input.id;
    number.htmlFor = input.id;
    const bars = drawBars(column), cutLine = document.createElementNS(SVG, "line");
    cutLine.setAttribute("class", "cut"); cutLine.setAttribute("y1", "0"); cutLine.setAttribute("y2", "40");
    bars.svg.append(cutLine);
    line.append(label, number);
    box.append(line, bars.svg, input, count);
    const refresh = () => {
      const at = thresholds.get(column.name);
      number.textContent = at.toFixed(2) + (at === column.threshold ? "" : ` (${column.threshold} in the run)`);
      cutLine.setAttribute("x1", at * 400); cutLine.setAttribute("x2", at * 400);
      bars.rects.forEach((rect, bar) => rect.setAttribute("class", (bar + .5) / 40 >= at ? "past" : "fill-kept"));
      count.textContent = `${tally((row) => isOver(column, row))} at or above`;
    };
    input.value = column.threshold;
    input.addEventListener("input", () => { thresholds.set(column.name, Number(input.value)); moved(); });
    return { box, refresh, reset: () => { input.value = column.threshold; thresholds.set(column.name, column.threshold); } };
  }

  function drawBars(column) {
    const svg = document.createElementNS(SVG, "svg"), counts = new Array(40).fill(0), rects = [];
    svg.setAttribute("viewBox", "0 0 400 40"); svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("aria-hidden", "true");
    for (let row = 0; row < data.count; row++) {
      const p = value(column.name, row);
      if (p !== null && p !== undefined) counts[Math.min(39, Math.floor(p * 40))] += weight(row);
    }
    const most = Math.max(...counts, 1);
    counts.forEach((count, bar) => {
      const rect = document.createElementNS(SVG, "rect"), height = count ? Math.max(1.5, 38 * count / most) : 0;
      rect.setAttribute("x", bar * 10 + .5); rect.setAttribute("width", 9); rect.setAttribute("y", 40 - height); rect.setAttribute("height", height);
      rects.push(rect);
      svg.append(rect);
    });
    return { svg, rects };
  }

  function tally(is) {
    let rows = 0, judged = 0, exact = true;
    for (let row = 0; row < data.count; row++) {
      if (!scores.some((column) => value(column.name, row) !== null && value(column.name, row) !== undefined)) continue;
      judged += weight(row);
      if (weight(row) !== 1) exact = false;
      if (is(row)) rows += weight(row);
    }
    const share = judged ? (100 * rows / judged).toFixed(1) : "0.0";
    return `${exact ? "" : "about "}${whole.format(Math.round(rows))} rows (${share} %)`;
  }

  const lines = scores.map(thresholdLine);
  function moved() {
    for (const line of lines) line.refresh();
    find("flagged").textContent = `Flagged by any: ${tally(isFlagged)}; in the run ${tally(wasFlagged)}.`;
    if (state.flag) { select(); return; }
    for (const score of document.querySelectorAll(".score")) {
      const column = scores.find((one) => one.name === score.dataset.column);
      score.classList.toggle("over", isOver(column, Number(score.closest(".card").dataset.row)));
    }
  }
  if (scores.length) {
    find("thresholds").append(...lines.map((line) => line.box));
    find("as-run").addEventListener("click", () => { for (const line of lines) line.reset(); moved(); });
    find("flag").addEventListener("change", (event) => { state.flag = event.target.value; select(); });
    moved();
  }

  // Filters
  data.outcomes.forEach((each, place) => {
    const chip = make("button", "chip", `${each.name} ${whole.format(each.rows)}`);
    chip.type = "button";
    chip.ariaPressed = "false";
    chip.addEventListener("click", () => {
      const on = !state.outcomes.has(place);
      if (on) state.outcomes.add(place); else state.outcomes.delete(place);
      chip.ariaPressed = String(on);
      select();
    });
    find("outcomes").append(chip);
  });
  for (const [name, label] of ORDERS) { const option = make("option", "", label); option.value = name; find("order").append(option); }
  find("order").addEventListener("change", (event) => { state.order = event.target.value; select(); });
  let due = 0;
  find("search").addEventListener("input", (event) => {
    clearTimeout(due);
    due = setTimeout(() => { state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean); select(); }, 150);
  });
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("clear").addEventListener("click", () => {
    Object.assign(state, { outcomes: new Set(), words: [], reason: -1, flag: "", order: "" });
    find("search").value = "";
    find("order").value = "";
    if (scores.length) find("flag").value = "";
    for (const chip of document.querySelectorAll(".chip")) chip.ariaPressed = "false";
    select();
  });
  for (const button of document.querySelectorAll(".look")) {
    button.addEventListener("click", () => { state.reason = Number(button.dataset.reason); openTab(find("tab-rows"), true); select(); });
  }

  // More rows as the end of the list comes near, and by the button.
  find("more").addEventListener("click", () => { const first = built; more(); const next = find("rows").children[first]; if (next) next.focus(); });
  new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) more(); }, { rootMargin: "1200px" }).observe(find("more"));

  // Tabs
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  function openTab(tab, focus) {
    for (const one of tabs) {
      const on = one === tab;
      one.ariaSelected = String(on);
      one.tabIndex = on ? 0 : -1;
      find(one.getAttribute("aria-controls")).hidden = !on;
    }
    if (focus) tab.focus();
  }
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => openTab(tab, false));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      openTab(tabs[(to + tabs.length) % tabs.length], true);
    });
  });

  // Keys
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "/") { event.preventDefault(); openTab(tabs[0], false); find("search").focus(); }
    if (event.key !== "j" && event.key !== "k") return;
    const cards = [...find("rows").children], at = cards.indexOf(document.activeElement.closest(".card"));
    const next = cards[event.key === "j" ? at + 1 : Math.max(0, at - 1)];
    if (next) next.focus();
  });

  select();
})();
