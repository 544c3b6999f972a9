"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  // Rows of a table that are shown at first: fewer if there is a table for each of several tasks.
  const FIRST = data.tasks.length > 1 ? 12 : 20;

  // On paper nothing can be opened: folds are open, and tables longer.
  const ON_PAPER = 60, PRINTED = [];

  const make = (tag, kind, text) => {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    if (text !== undefined && text !== null) element.textContent = text;
    return element;
  };
  const known = (value) => value !== undefined && value !== null && value !== "";

  // How values are written; a column without a format is text.
  const clock = (seconds) => {
    const whole = Math.round(seconds), two = (number) => String(number).padStart(2, "0");
    return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  };
  // As the sentences on the page and the other files have it: a tie goes to the even digit.
  const fixed = (value, digits) => {
    const all = value.toFixed(20), end = all.length - 20 + digits;
    const even = /^50*$/.test(all.slice(end)) && "02468".includes(all[end - 1]);
    return even ? all.slice(0, end) : value.toFixed(digits);
  };
  const FORMATS = {
    score: (value) => fixed(value, 3),
    difference: (value) => (value > 0 ? "+" : value < 0 ? "\u2212" : "") + fixed(Math.abs(value), 3),
    p: (value) => (value < 0.001 ? "<0.001" : value.toFixed(3)),
    loss: (value) => (Math.abs(value) < 0.001 && value !== 0 ? value.toPrecision(4) : value.toFixed(4)),
    whole: (value) => String(value),
    seconds: clock,
    percent: (value) => `${Math.round(value)} %`,
    tenth: (value) => value.toFixed(1),
    hundredth: (value) => value.toFixed(2),
    parameter: String,
  };
  const text = (column, row) => {
    const value = column.of(row);
    if (!known(value)) return "";
    if (column.show) return column.show(row);
    return column.format && typeof value === "number" ? FORMATS[column.format](value) : String(value);
  };
  const column = (title, key, format, of) => ({ title, key, format, of: of || ((row) => row[key]) });
  const hinted = (hint, one) => ({ ...one, hint });
  // A number beside what was asked for.
  const within = (title, key, format, total) => {
    const whole = format === "percent" ? FORMATS.whole : FORMATS[format];
    return {
      ...column(title, key, format),
      show: (row) => FORMATS[format](row[key]) + (known(row[total]) ? ` of ${whole(row[total])}` : ""),
    };
  };
  const epoch = (row) => (row.epoch !== null ? row.epoch : (ofRun.get(row.run) || {}).type === "control" ? "base" : "given");
  const interval = (row) => (known(row.low) ? `${FORMATS.score(row.low)} to ${FORMATS.score(row.high)}` : "");
  const difference = (row) => (known(row.low) ? `${FORMATS.difference(row.low)} to ${FORMATS.difference(row.high)}` : "");

  const ofRun = new Map(data.runs.map((run) => [run.run, run]));
  const parameters = data.parameters.differing.map((name) =>
    column(name, name, "parameter", (row) => (ofRun.get(row.run) || { parameters: {} }).parameters[name]));
  const FINE = "ok";
  // How a job ended, with the state of one that did not simply fail: out of memory, or out of time.
  const outcome = (row) => (row.outcome === "failed" && row.state !== "FAILED" ? `failed: ${row.state}` : row.outcome);
  const several = (rows, key) => new Set(rows.map((row) => row[key])).size > 1;
  const some = (rows, columns) => columns.filter((one) => rows.some((row) => known(one.of(row))));

  const of = (rows, task) => rows.filter((row) => row.task === task);
  const better = (task) => (data.tasks.find((one) => one.task === task) || {}).better;
  // A table's rows, its columns, and the column by which it is sorted at first: the best result above.
  const TABLES = {
    problems: () => [data.problems, [
      column("Step", "subject"), column("State", "state"), column("Reason", "reason"), column("Read on in", "read_on")]],
    scores: (task) => [of(data.scores, task), [
      column("Run", "run"), column("Epoch", "epoch", "whole", epoch),
      ...(several(of(data.scores, task), "metric") ? [column("Metric", "metric")] : []),
      column((of(data.scores, task)[0] || {}).metric, "value", "score"), column("95 % interval", "low", null, interval),
      column("n", "n", "whole"), ...parameters,
      column("Interval by", "method"), column("Without a score", "unscored", "whole"), column("Note", "note")], "value"],
    seeds: (task) => [of(data.seeds, task), [
      column("Mean over seeds of", "name"), column("Epoch", "epoch", "whole"), column("Seeds", "seeds", "whole"),
      column((of(data.seeds, task)[0] || {}).metric, "mean", "score"),
      hinted("Standard deviation between seeds", column("SD", "sd", "score")),
      column("95 % interval", "low", null, interval)], "mean"],
    comparisons: (task) => [of(data.comparisons, task), [
      column("Run", "run"), column("Epoch", "epoch", "whole"), column("Against", "reference"),
      column("Difference", "delta", "difference"), column("95 % interval", "low", null, difference),
      hinted("Samples in which the run is better", column("Better", "wins", "whole")),
      hinted("Samples in which the run is worse", column("Worse", "losses", "whole")), column("Pairs", "n", "whole"),
      hinted("Corrected for all comparisons of this page (Holm)", column("p, corrected", "p_corrected", "p")),
      column("Method", "method"),
      hinted("Smaller differences cannot be seen with this many samples", column("Visible from", "smallest", "score")),
      column("Note", "why")]],
    runs: () => [data.runs.filter((run) => run.type === "fine-tuned"), [
      column("Run", "run"), ...parameters,
      column("Train loss", "train_loss", "loss", (row) => row.losses.train_loss),
      column("Validation loss", "validation_loss", "loss", (row) => row.losses.validation_loss),
      column("Time", "seconds", "seconds"), column("Note", "note")]],
    jobs: () => [[...data.jobs].sort((a, b) => (b.outcome === "failed") - (a.outcome === "failed")), [
      column("Job", "job_id"), column("Of", "subject"), column("Outcome", "outcome", null, outcome),
      within("Ran", "seconds", "seconds", "limit_seconds"),
      hinted("Share of the cores that was used", within("CPU, of cores", "cpu_percent", "percent", "cpus")),
      within("Memory, GB", "memory_gb", "tenth", "requested_gb"),
      column("GPUs", "gpus", "whole", (row) => row.gpus || null), column("GPU use", "gpu_percent", "percent"),
      within("GPU memory, GB", "gpu_memory_gb", "tenth", "gpu_total_gb"),
      column("GPU-hours", "gpu_hours", "hundredth", (row) => row.gpu_hours || null)]],
    requests: () => [data.compute.requests, [
      column("Jobs", "kind"), column("Number", "jobs", "whole"), column("Longest", "seconds", "seconds"),
      column("Limit", "limit_seconds", "seconds"), column("Suggested limit", "suggested_seconds", "seconds"),
      column("Most memory, GB", "memory_gb", "tenth"), column("Asked for, GB", "requested_gb", "tenth"),
      column("Suggested, GB", "suggested_gb", "whole")]],
    sanity: () => [data.sanity.filter((row) => row.verdict !== FINE), [
      column("Of", "subject"), column("Check", "check"), column("Found", "found"), column("What it means", "verdict")]],
    passed: () => [data.sanity.filter((row) => row.verdict === FINE), [
      column("Of", "subject"), column("Check", "check"), column("Found", "found")]],
    same: () => [Object.entries(data.parameters.same).map(([name, value]) => ({ name, value })), [
      column("Parameter", "name"), column("Value", "value")]],
    differing: () => [data.provenance.differing.map(([fact, value, results]) => ({ fact, value, results })), [
      column("What differs", "fact"), column("Made with", "value"), column("Results", "results")]],
  };

  const compare = (a, b) => {
    if (!known(a) || !known(b)) return known(b) - known(a);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  const isBest = (row) => data.tasks.some((task) =>
    task.task === row.task && task.best_runs.includes(row.run) && task.best_epoch === row.epoch);

  function table(place, name) {
    const [all, every, first] = TABLES[name](place.dataset.task);
    const columns = some(all, every);
    const numeric = columns.map((one) => one.key === "low" || (one.format && all.some((row) => typeof one.of(row) === "number")));
    const way = better(place.dataset.task);
    // Without any score there is no such column.
    const byFirst = columns.findIndex((one) => one.key === first);
    let sorted = way && byFirst >= 0 ? byFirst : null;
    let descending = way === "higher", wanted = "", limit = FIRST, onScreen = FIRST;

    const label = [place.dataset.label, place.dataset.task].filter(known).join(", ");
    const body = make("tbody"), more = make("button", "more"), count = make("span");
    const heads = columns.map((one, index) => {
      const head = make("th", numeric[index] ? "number" : ""), button = make("button", "", one.title);
      if (one.hint) head.title = one.hint;
      if (sorted === index) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      head.scope = "col";
      button.type = "button";
      button.addEventListener("click", () => {
        descending = sorted === index ? !descending : numeric[index];
        sorted = index;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        draw();
      });
      head.append(button);
      return head;
    });

    const key = (one, row) => (one.key === "low" ? row.low : one.of(row));
    function draw() {
      let rows = all;
      if (wanted) rows = rows.filter((row) => columns.some((one) => text(one, row).toLowerCase().includes(wanted)));
      if (sorted !== null) {
        const one = columns[sorted];
        rows = [...rows].sort((a, b) => {
          const [x, y] = [key(one, a), key(one, b)];
          // What is not known comes last either way.
          return known(x) && known(y) && descending ? compare(y, x) : compare(x, y);
        });
      }
      body.replaceChildren(...rows.slice(0, limit).map(line));
      more.hidden = rows.length <= limit;
      more.textContent = `Show all ${rows.length.toLocaleString("en")} rows`;
      more.dataset.printed = `${limit} of ${rows.length.toLocaleString("en")} rows`;
      count.textContent = wanted ? `${rows.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} rows` : "";
    }
    function line(row) {
      const element = make("tr", name === "scores" && isBest(row) ? "best" : "");
      columns.forEach((one, index) => {
        const value = text(one, row);
        const cell = make("td", numeric[index] ? "number" : value.length <= 20 || (value.length <= 40 && !value.includes(" ")) ? "short" : "", value);
        if (/^(failed|cancelled)\b/.test(value) && value.length <= 20) cell.classList.add("failed");
        element.append(cell);
      });
      return element;
    }

    if (all.length > 8) {
      const tools = make("div", "tools"), filter = make("input");
      filter.type = "search";
      filter.placeholder = "Filter";
      filter.setAttribute("aria-label", `Filter the table ${label}`);
      filter.addEventListener("input", () => { wanted = filter.value.trim().toLowerCase(); draw(); });
      tools.append(filter, count);
      place.append(tools);
    }
    more.type = "button";
    more.addEventListener("click", () => { limit = Infinity; draw(); });
    PRINTED.push({
      before: () => { onScreen = limit; limit = Math.max(limit, ON_PAPER); draw(); },
      after: () => { limit = onScreen; draw(); },
    });
    const scroll = make("div", "scroll"), whole = make("table"), head = make("thead"), titles = make("tr");
    titles.append(...heads);
    head.append(titles);
    whole.append(head, body);
    whole.setAttribute("aria-label", label);
    scroll.append(whole);
    place.append(scroll, more);
    draw();
  }

  document.querySelectorAll("[data-table]").forEach((place) => table(place, place.dataset.table));

  // Samples: what two results answered to the same prompt.
  const judged = (answer) => (!answer || !known(answer.score) ? "not scored" : answer.verdict || FORMATS.score(answer.score));
  const KINDS = [
    ["", "all samples"], ["differ", "scores differ"], ["first", "first right, second wrong"],
    ["second", "first wrong, second right"], ["right", "both right"], ["wrong", "both wrong"], ["none", "not scored"]];

  function samples(place) {
    const choose = (label, values, chosen) => {
      const choice = make("select");
      choice.setAttribute("aria-label", label);
      fill(choice, values, chosen);
      choice.addEventListener("change", () => { limit = SHOWN; draw(); });
      return choice;
    };
    const fill = (choice, values, chosen) => {
      choice.replaceChildren(...values.map(([value, name]) => {
        const option = make("option", "", name);
        option.value = value;
        return option;
      }));
      choice.value = chosen;
    };
    const SHOWN = 12;
    let limit = SHOWN;
    const names = [...new Set(data.samples.map((sample) => sample.task))];
    const results = (task) => [...new Set(data.samples.filter((sample) => sample.task === task)
      .flatMap((sample) => sample.answers.map((one) => one.of)))];
    // Within a task its name says nothing.
    const labels = (task) => results(task).map((name) => [name, name.replace(`/${task}/`, ", ").replace("epoch", "epoch ")]);

    const tools = make("div", "tools"), filter = make("input"), count = make("span"), list = make("div");
    const more = make("button", "more");
    const task = choose("task", names.map((name) => [name, name]), names[0]);
    const first = choose("first result", labels(names[0]), results(names[0])[0]);
    const second = choose("second result", labels(names[0]), results(names[0])[1] || "");
    const kind = choose("kind of samples", KINDS, "");
    task.addEventListener("change", () => {
      const of = results(task.value);
      fill(first, labels(task.value), of[0]);
      fill(second, labels(task.value), of[1] || "");
      draw();
    });
    more.type = "button";
    more.addEventListener("click", () => { limit = Infinity; draw(); });
    filter.type = "search";
    filter.placeholder = "Filter";
    filter.setAttribute("aria-label", "Filter the samples");
    filter.addEventListener("input", draw);
    const one = results(names[0]).length < 2 && names.length < 2;
    tools.append(...(names.length > 1 ? [task] : []), first, ...(one ? [] : [make("span", "", "beside"), second]),
      kind, filter, count);
    place.append(tools, list, more);

    const given = (sample, name) => sample.answers.find((answer) => answer.of === name);
    const fits = (a, b) => ({
      "": true, differ: a !== b && a !== "not scored" && b !== "not scored",
      first: a === "right" && b === "wrong", second: a === "wrong" && b === "right",
      right: a === "right" && b === "right", wrong: a === "wrong" && b === "wrong",
      none: a === "not scored" || b === "not scored",
    })[kind.value];
    const words = (sample) => [sample.id, sample.input, sample.target, ...sample.answers.map((answer) => answer.answer)].join(" ").toLowerCase();
    function draw() {
      const wanted = filter.value.trim().toLowerCase();
      const every = data.samples.filter((sample) => sample.task === task.value);
      const found = every.filter((sample) =>
        fits(judged(given(sample, first.value)), judged(given(sample, second.value || first.value)))
        && (!wanted || words(sample).includes(wanted)));
      list.replaceChildren(...found.slice(0, limit).map(entry));
      more.hidden = found.length <= limit;
      more.textContent = `Show all ${found.length} samples`;
      count.textContent = `${found.length} of ${every.length} samples`;
    }
    function entry(sample) {
      const pair = [...new Set([first.value, second.value || first.value])].map((name) => [name, given(sample, name)]);
      const whole = make("details"), head = make("summary");
      const marks = make("span", "kind");
      pair.forEach(([, answer]) => marks.append(make("span", `verdict ${judged(answer).replace(" ", "-")}`, judged(answer))));
      head.append(make("span", "snippet", `${sample.id}  ${sample.input}`), marks);
      whole.append(head);
      // Only what is opened is made.
      whole.addEventListener("toggle", () => {
        if (!whole.open || whole.children.length > 1) return;
        const all = make("dl"), add = (place, name, value) => {
          const said = make("dd", "", known(value) ? value : "\u2014");
          said.dir = "auto";
          place.append(make("dt", "", name), said);
        };
        add(all, "Prompt", sample.input);
        add(all, "Target", sample.target);
        const beside = make("div", "beside");
        pair.forEach(([name, answer]) => {
          const column = make("dl", "answer-of");
          add(column, `${name}: ${judged(answer)}`, answer && answer.answer);
          beside.append(column);
        });
        whole.append(all, beside);
      });
      return whole;
    }
    draw();
  }
  document.querySelectorAll(".samples").forEach(samples);

  // Tooltips of marks in figures.
  const tip = document.getElementById("tip");
  const show = (event) => {
    const mark = event.target.closest ? event.target.closest("[data-tip]") : null;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 4))}px`;
    tip.style.top = `${event.clientY + 14 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 14}px`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);

  document.querySelectorAll("details.fold").forEach((fold) => {
    let wasOpen = false;
    PRINTED.push({ before: () => { wasOpen = fold.open; fold.open = true; }, after: () => { fold.open = wasOpen; } });
  });
  addEventListener("beforeprint", () => PRINTED.forEach((one) => one.before()));
  addEventListener("afterprint", () => PRINTED.forEach((one) => one.after()));

  document.documentElement.dataset.ready = "true";
})();
