// Saves the page its reloads: what a visitor does changes it in place, and the strip of nodes follows the
// cluster. The page is whole without this file. Nodes render everything about a session; this only puts
// their answer into the page, so that nothing is shown that no node said.

const ANSWER_MS = 10000; // how long a node may take; its own limit for finding a session is shorter
const READ_TRIES = 20; // after a failure the page is read again this often, READ_PAUSE_MS apart
const READ_PAUSE_MS = 300;
const RETRY_MS = 300; // until the stream is opened anew, where the browser has given it up
const SILENCE_MS = 6000; // nodes beat every 2 s (BEAT_S in events.py): three missed, and the stream hangs
const NOTICE_MS = 5000; // how long a success stays on the screen
const LOOK_MS = 500; // after the cluster changed, until the page asks where its session's copies are now
const LOST_MS = 3000; // without a stream for so long, the strip is shown as out of date

const $ = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const shownNode = () => $("served").dataset.node;

let noticeTimer;
function say(text, { stay = true } = {}) {
  clearTimeout(noticeTimer);
  $("notice").textContent = text;
  if (!stay) noticeTimer = setTimeout(() => say(""), NOTICE_MS);
}

// --- the session ---------------------------------------------------------------------------------------

const LIVE_PARTS = ["served", "nodes", "cart", "victim"];

function adopt(page, granted, quietly) {
  const focused = document.activeElement;
  const before = shownNode();
  for (const id of LIVE_PARTS) {
    const fresh = page.getElementById(id);
    $(id).className = fresh.className;
    $(id).replaceChildren(...fresh.childNodes);
  }
  const node = page.getElementById("served").dataset.node;
  $("served").dataset.node = node;
  document.title = page.title;
  // Who works with the keyboard must not be thrown back to the top because a button was replaced.
  if (focused?.isConnected === false) ($(focused.id) ?? $("cart-title")).focus({ preventScroll: true });
  const moved = node !== before && `${node} took over from ${before}: same session, same cart.`;
  const news = moved || page.getElementById("notice").textContent;
  if (news || !quietly) say(news, { stay: Boolean(moved) || !granted });
}

async function ask(address, { quietly, ...options } = {}) {
  const headers = { "X-In-Place": "1" };
  const answer = await fetch(address, { ...options, headers, signal: AbortSignal.timeout(ANSWER_MS) });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!page.getElementById("served")) throw new Error(`the answer was ${answer.status} ${answer.statusText}`);
  adopt(page, answer.ok, quietly);
}

async function read(address) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask(address);
    } catch (error) {
      if (tries === READ_TRIES) throw error;
      say("No node answers; asking again …");
      await pause(READ_PAUSE_MS);
    }
  }
}

async function look() {
  // Nobody asked for this, so nobody hears of it if it fails; the next answer shows the same.
  await ask("/cart", { quietly: true }).catch(() => {});
}

async function write(form) {
  try {
    await ask(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  } catch {
    // A write without an answer may have happened or not: never repeat it blindly, show what is there.
    await read("/cart");
    say(`It is not certain that this happened. ${shownNode()} shows what is kept.`);
  }
}

let queue = Promise.resolve(); // one request at a time, so that an older answer never covers a newer one
function enqueue(work) {
  queue = queue.then(work).catch((error) => {
    say(`No node answers (${error.message}). Reload the page to try again.`);
  });
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  enqueue(() => write(form));
});

document.addEventListener("click", (event) => {
  if (event.target.id !== "again" || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  enqueue(() => read("/"));
});

// --- the nodes -----------------------------------------------------------------------------------------

const GONE = new Set(["dead", "left"]);
let known = ""; // the nodes and their states when last heard
let lookTimer;

function fill(row, node) {
  row.className = `node hue-${node.colour} is-${node.state}`;
  row.querySelector(".name").textContent = node.name;
  row.querySelector(".state").textContent = node.state;
  row.querySelector(".load").textContent =
    node.primaries === null ? "" : `${node.primaries} ${node.primaries === 1 ? "session" : "sessions"}`;
}

function paint(nodes) {
  const rows = new Map([...$("nodes").children].map((row) => [row.dataset.name, row]));
  $("nodes").replaceChildren(
    ...nodes.map((node) => {
      const row = rows.get(node.name) ?? $("node-row").content.firstElementChild.cloneNode(true);
      row.dataset.name = node.name;
      fill(row, node);
      return row;
    }),
  );
  const state = nodes.find(({ name }) => name === shownNode())?.state;
  const gone = GONE.has(state);
  if (gone && !$("served").classList.contains("gone")) {
    const fate = state === "left" ? "has left" : "is dead";
    say(`${shownNode()} ${fate}. Its sessions live on in their backups: go on, and another node answers.`);
  }
  $("served").classList.toggle("gone", gone);

  const now = nodes.map((node) => `${node.name} ${node.state}`).join();
  if (known && now !== known) {
    clearTimeout(lookTimer);
    // A page whose own node is gone waits for its visitor, who wants to see the next node take over.
    if (!gone) lookTimer = setTimeout(() => enqueue(look), LOOK_MS);
  }
  known = now;
}

let stream = null;
let heardAt = performance.now();

function showLive(state, text) {
  $("live").className = `live ${state}`;
  $("live").textContent = text;
  $("nodes").classList.toggle("stale", state === "lost");
}

function listen() {
  stream?.close();
  stream = null;
  if (document.hidden) return; // browsers open few connections to a site: a tab in the background holds none
  stream = new EventSource("/api/events");
  stream.onmessage = ({ data }) => {
    heardAt = performance.now();
    showLive("", "live");
    paint(JSON.parse(data).nodes);
  };
  stream.onerror = () => {
    showLive("waiting", "reconnecting …");
    // After an answer other than 200 the browser does not try again by itself.
    if (stream?.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
  };
}

setInterval(() => {
  if (document.hidden) return;
  const silence = performance.now() - heardAt;
  if (silence > LOST_MS && stream?.readyState !== EventSource.OPEN) showLive("lost", "no node answers, still trying");
  if (silence > SILENCE_MS && stream?.readyState === EventSource.OPEN) listen();
}, 1000);

document.addEventListener("visibilitychange", () => {
  heardAt = performance.now();
  listen();
});

$("live").hidden = false;
showLive("waiting", "connecting …");
listen();
