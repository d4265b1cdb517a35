// The balancer's figures, live. Events carry counters since the balancer's start; rates are their
// differences over the time between two events. The page only reads.

const HISTORY = 60; // samples a sparkline shows; the balancer sends about one a second
const SAMPLE_MS = 500; // events closer than this are shown but make no sample: a rate over less is noise
const RETRY_MS = 1000; // until the stream is opened anew, where the browser has given it up
const SILENCE_MS = 6000; // a stream without events for so long hangs, and is opened anew
const CHECK_MS = 1000;

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const perSecond = (rate) => (rate > 0 && rate < 10 ? tenths : whole).format(rate < 10 ? rate : Math.round(rate));

// The shop's rule (colour_of in sessiond/demo/nodes.py): the last digit of the name, else a sum of its letters.
function colourOf(name) {
  const last = name.at(-1);
  if (last >= "0" && last <= "9") return Number(last);
  return [...name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 10;
}

// --- rates ---------------------------------------------------------------------------------------------

class Rate {
  constructor() {
    this.history = [];
    this.counter = null;
    this.at = 0;
  }

  take(counter, now) {
    if (this.counter !== null && now - this.at < SAMPLE_MS) return;
    if (this.counter !== null) {
      const grown = counter >= this.counter ? counter - this.counter : counter; // less: the balancer restarted
      this.history.push((grown * 1000) / (now - this.at));
      if (this.history.length > HISTORY) this.history.shift();
    }
    this.counter = counter;
    this.at = now;
  }

  get last() {
    return this.history.at(-1) ?? 0;
  }

  get highest() {
    return Math.max(0, ...this.history);
  }
}

const total = new Rate();
const rates = new Map(); // name of a node -> its Rate

function draw(svg, { history }, highest) {
  svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 100`);
  const x = (index) => HISTORY - history.length + index;
  const y = (rate) => (highest ? 98 - (rate / highest) * 94 : 98).toFixed(1);
  const points = history.map((rate, index) => `${x(index)} ${y(rate)}`);
  const line = points.length > 1 ? `M${points.join("L")}` : "";
  svg.querySelector(".line").setAttribute("d", line);
  svg.querySelector(".area").setAttribute("d", line && `${line}V100H${x(0)}Z`);
}

// --- the page ------------------------------------------------------------------------------------------

function fill(row, node, highest) {
  const put = (part, text) => {
    row.querySelector(`.${part}`).textContent = text;
  };
  row.className = `node hue-${colourOf(node.name)} is-${node.state}`;
  put("name", node.name);
  put("address", node.address);
  put("state", node.state);
  put("reason", node.reason ?? "");
  put("rate", perSecond(rates.get(node.name).last));
  for (const count of ["active", "sessions", "requests", "failures"]) {
    put(count, node[count] == null ? "–" : whole.format(node[count]));
  }
  put("weight", node.weight);
  draw(row.querySelector(".spark"), rates.get(node.name), highest);
}

function show({ nodes, totals }) {
  const now = performance.now();
  const requests = totals?.requests ?? nodes.reduce((sum, node) => sum + node.requests, 0);
  total.take(requests, now);
  for (const { name, requests: count } of nodes) {
    if (!rates.has(name)) rates.set(name, new Rate());
    rates.get(name).take(count, now);
  }
  for (const name of rates.keys()) if (!nodes.some((node) => node.name === name)) rates.delete(name);

  const up = nodes.filter(({ state }) => state === "up").length;
  $("rate").textContent = perSecond(total.last);
  draw($("rate-spark"), total, total.highest);
  $("up").textContent = `${up} of ${nodes.length}`;
  $("up").classList.toggle("bad", nodes.some(({ state }) => state === "down"));
  $("requests").textContent = whole.format(requests);
  $("active").textContent = totals ? whole.format(totals.active_connections) : "–";
  $("retries").textContent = totals ? whole.format(totals.retries) : "–";
  $("failures").textContent = totals ? whole.format(totals.failures) : "–";

  const highest = Math.max(...[...rates.values()].map((rate) => rate.highest), 0); // one scale for all nodes
  const rows = new Map([...$("nodes").children].map((row) => [row.dataset.name, row]));
  $("nodes").replaceChildren(
    ...nodes.map((node) => {
      const row = rows.get(node.name) ?? $("row").content.firstElementChild.cloneNode(true);
      row.dataset.name = node.name;
      fill(row, node, highest);
      return row;
    }),
  );
  $("nothing").hidden = nodes.length > 0;
  $("figures").hidden = false;
  document.title = `${up} of ${nodes.length} up, ${perSecond(total.last)}/s`;
}

// --- the stream ----------------------------------------------------------------------------------------

let stream = null;
let heardAt = null; // when the last event came; null before the first
let quietSince = 0; // when the stream was opened or last heard, in milliseconds of the clock

function status(state, text) {
  $("live").className = `live ${state}`;
  if ($("live").textContent !== text) $("live").textContent = text;
  document.body.classList.toggle("stale", state === "lost");
}

function lost() {
  const since = heardAt === null ? "" : `, figures of ${new Date(heardAt).toLocaleTimeString()}`;
  status("lost", `the balancer does not answer${since}; trying again …`);
  document.title = "Balancer: no answer";
}

function listen() {
  stream?.close();
  stream = null;
  if (document.hidden) return; // a page in the background costs the balancer nothing
  const mine = new EventSource("/v1/events");
  quietSince = Date.now();
  mine.onmessage = ({ data }) => {
    heardAt = quietSince = Date.now();
    status("", "live");
    show(JSON.parse(data));
  };
  mine.onerror = () => {
    lost();
    // After an answer other than 200 the browser does not try again by itself.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => mine === stream && listen(), RETRY_MS);
  };
  stream = mine;
}

setInterval(() => {
  if (stream && Date.now() - quietSince > SILENCE_MS) {
    lost();
    listen();
  }
}, CHECK_MS);

document.addEventListener("visibilitychange", listen);
listen();
