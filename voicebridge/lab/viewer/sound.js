// The call out of its JSON, what all parts share, and the sound in both its forms.
const $ = (id) => document.getElementById(id);
const call = JSON.parse($("data").textContent);
const ROW = 23, LANE_PAD = 8, AXIS = 24, GAP = call.links.length ? 34 : 10;
const SIDES = { call: "--soft", media: "--media", caller: "--caller", bot: "--bot", problem: "--bad" };
const TRACK_COLOURS = ["--caller", "--bot"];
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function make(tag, text, attributes) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  return element;
}
function draw(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
const clock = (t, digits = 1) => {
  const scale = 10 ** digits, all = Math.round(Math.max(0, t) * scale);
  const minutes = Math.floor(all / (60 * scale));
  const seconds = ((all - minutes * 60 * scale) / scale).toFixed(digits);
  return minutes + ":" + seconds.padStart(digits ? digits + 3 : 2, "0");
};
const figure = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 10 ? x.toFixed(1) : x.toFixed(2));

// ---- sound: samples where they are embedded, an envelope where the call is too long ----
function bytes(base64) {
  const text = atob(base64), out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}
function blocksOf(samples, rate) {
  const block = 64, count = Math.ceil(samples.length / block);
  const low = new Float32Array(count), high = new Float32Array(count), square = new Float32Array(count);
  for (let b = 0; b < count; b++) {
    let least = 0, most = 0, sum = 0;
    const end = Math.min(samples.length, (b + 1) * block);
    for (let i = b * block; i < end; i++) {
      const x = samples[i] / 32768;
      if (x < least) least = x;
      if (x > most) most = x;
      sum += x * x;
    }
    low[b] = least; high[b] = most; square[b] = sum / (end - b * block);
  }
  return { low, high, square, rate: rate / block };
}
function loadTracks() {
  if (call.audio) {
    const pcm = new Int16Array(bytes(call.audio.pcm).buffer), n = call.audio.channels;
    return call.tracks.map((track, side) => {
      const samples = new Int16Array(pcm.length / n);
      for (let i = 0; i < samples.length; i++) samples[i] = pcm[i * n + side];
      return { ...track, samples, rate: call.audio.rate, blocks: blocksOf(samples, call.audio.rate) };
    });
  }
  return call.tracks.map((track, side) => {
    const rows = new Int8Array(bytes(call.envelope.tracks[side]).buffer), count = rows.length / 3;
    const blocks = { rate: call.envelope.rate };
    blocks.low = Float32Array.from({ length: count }, (_, i) => rows[i * 3] / 128);
    blocks.high = Float32Array.from({ length: count }, (_, i) => rows[i * 3 + 1] / 128);
    blocks.square = Float32Array.from({ length: count }, (_, i) => (rows[i * 3 + 2] / 128) ** 2);
    return { ...track, samples: null, rate: call.envelope.rate, blocks };
  });
}
const tracks = loadTracks();
const loudest = Math.max(0.05, ...tracks.map((t) => t.blocks.high.reduce((a, x) => Math.max(a, x), 0)),
  ...tracks.map((t) => -t.blocks.low.reduce((a, x) => Math.min(a, x), 0)));

/* Least, most and mean square between two instants. */
function stretch(track, from, to) {
  const fine = track.samples && (to - from) * track.rate < 256;
  const rate = fine ? track.rate : track.blocks.rate, length = fine ? track.samples.length : track.blocks.low.length;
  const a = clamp(Math.floor(from * rate), 0, length), b = clamp(Math.max(a + 1, Math.ceil(to * rate)), 0, length);
  let least = 0, most = 0, sum = 0;
  for (let i = a; i < b; i++) {
    const low = fine ? track.samples[i] / 32768 : track.blocks.low[i];
    const high = fine ? low : track.blocks.high[i];
    if (low < least) least = low;
    if (high > most) most = high;
    sum += fine ? low * low : track.blocks.square[i];
  }
  return { least, most, square: b > a ? sum / (b - a) : 0 };
}

const player = $("audio");
function loadPlayer() {
  if (!call.audio) { $("play").hidden = true; return; }
  const pcm = bytes(call.audio.pcm), { rate, channels } = call.audio;
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((c, i) => head.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); head.setUint32(4, 36 + pcm.length, true); text(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, channels, true);
  head.setUint32(24, rate, true); head.setUint32(28, rate * channels * 2, true);
  head.setUint16(32, channels * 2, true); head.setUint16(34, 16, true);
  text(36, "data"); head.setUint32(40, pcm.length, true);
  player.src = URL.createObjectURL(new Blob([head, pcm], { type: "audio/wav" }));
}
