// What a page makes of counters that only grow: rates, and quantiles of durations counted in buckets. A counter that
// is smaller than before belongs to a balancer that was restarted, and counts from 0.

const LENGTH = 60; // samples a sparkline shows; the balancer sends about one a second
const SAMPLE_MS = 500; // events closer than this are shown but make no sample: a rate over less is noise
const WINDOW_MS = 10000; // quantiles are of the durations of so long

export class History {
  constructor() {
    this.length = LENGTH;
    this.rates = [];
    this.counter = null;
    this.at = 0;
  }

  take(counter, now) {
    if (this.counter !== null && now - this.at < SAMPLE_MS) return;
    if (this.counter !== null) {
      const grown = counter >= this.counter ? counter - this.counter : counter;
      this.rates.push((grown * 1000) / (now - this.at));
      if (this.rates.length > LENGTH) this.rates.shift();
    }
    this.counter = counter;
    this.at = now;
  }

  get last() {
    return this.rates.at(-1) ?? 0;
  }

  get highest() {
    return Math.max(0, ...this.rates);
  }
}

export class Latency {
  constructor() {
    this.samples = []; // {at, counts}, oldest first; the first is the one before the window
    this.bounds = [];
  }

  take(counts, bounds, now) {
    this.bounds = bounds;
    const before = this.samples.at(-1);
    if (before && counts.some((number, index) => number < before.counts[index])) this.samples = [];
    if (before && now - before.at < SAMPLE_MS) return;
    this.samples.push({ at: now, counts });
    while (this.samples.length > 2 && this.samples[1].at < now - WINDOW_MS) this.samples.shift();
  }

  get isEmpty() {
    return this.quantile(0) === null;
  }

  // In seconds, linear within a bucket; Infinity: beyond the last bound; null: nothing was counted.
  quantile(share) {
    if (this.samples.length < 2) return null;
    const [old, young] = [this.samples[0].counts, this.samples.at(-1).counts];
    const counts = young.map((number, index) => number - old[index]);
    const total = counts.reduce((sum, number) => sum + number, 0);
    if (!total) return null;
    let rank = share * total;
    for (const [index, number] of counts.entries()) {
      if (number && rank <= number) {
        const low = this.bounds[index - 1] ?? 0;
        const high = this.bounds[index];
        return high === undefined ? Infinity : low + ((high - low) * rank) / number;
      }
      rank -= number;
    }
    return Infinity;
  }
}

export function seconds(duration) {
  if (duration === null) return "–";
  if (duration === Infinity) return "> 30 s";
  if (duration >= 0.9995) return `${duration.toPrecision(2)} s`;
  const ms = duration * 1000;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
