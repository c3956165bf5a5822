// Workers: GPU memory, plan, and the jobs that they hold.
import { $, gib, keep, pill, when } from './account_parts.js';
import { flowButtons } from './admin.js';
import { make } from './cards.js';
import { say } from './words.js';

function memory({ gpu_memory_used_bytes: used, gpu_memory_total_bytes: total, device, name }) {
  const line = make('div', 'memory');
  line.append(make('span', '', say('gpuMemory')), make('span', '', total ? `${gib(used)} / ${gib(total)}` : `${say('noGpu')} (${device})`));
  if (!total) return [line];
  const meter = make('meter');
  Object.assign(meter, { min: 0, max: total, value: used });
  meter.setAttribute('aria-label', `${say('gpuMemory')}: ${name}`);
  return [line, meter];
}

const RIDES = new Set(['encode', 'denoise', 'decode']);
const GROUPS = ['riding', 'next', 'saving'];
const groupOf = ({ stage }) => (RIDES.has(stage) ? 'riding' : stage === 'upload' ? 'saving' : 'next');

// A worker takes up more jobs than it has seats: the next ones, and those whose picture is being stored. Riders beyond the
// seats have stepped aside for others.
export function seatsOf({ jobs, slots }) {
  const [riding, next, saving] = GROUPS.map((group) => jobs.filter((job) => groupOf(job) === group).length);
  return { slots, riding, used: Math.min(riding, slots), aside: Math.max(0, riding - slots), next, saving };
}

function seatWords(worker) {
  const { slots, used, aside, next, saving } = seatsOf(worker);
  const others = [['seatsAside', aside], ['seatsNext', next], ['seatsSaving', saving]].filter(([, n]) => n);
  return [say('seats', { used, n: slots }), ...others.map(([words, n]) => say(words, { n }))].join(say('comma'));
}

function stageWords(job) {
  if (groupOf(job) === 'next') return say('isNext');
  return job.stage === 'denoise' ? say('step', { step: job.step, steps: job.steps }) : say(job.stage);
}

function heldLine(job) {
  const line = make('li');
  const text = stageWords(job);
  const who = make('span', 'who');
  who.append(make('span', 'who-name', job.tenant), '\u00a0· ', make('span', 'step', text));
  line.append(who);
  if (groupOf(job) === 'next') return line;
  const bar = make('progress');
  bar.max = job.steps || 1;
  bar.value = job.step;
  bar.setAttribute('aria-label', `${job.tenant}: ${text}`);
  line.append(bar);
  return line;
}

function card(worker) {
  const item = make('li', 'worker');
  const head = make('div', 'worker-head');
  const title = make('h3', '', worker.name);
  title.append(make('small', '', `${worker.device} · ${worker.model} · ${say('upFor', { time: when(worker.started_at) })}`));
  head.append(title, pill(worker.state));
  item.append(head, ...memory(worker));
  item.append(make('span', 'note', worker.jobs.length ? seatWords(worker) : say(worker.state === 'open' ? 'idle' : 'mayStop')));
  if (worker.jobs.length) {
    const list = make('ul', 'held');
    list.setAttribute('aria-label', say('holds', { name: worker.name }));
    list.append(...GROUPS.flatMap((group) => worker.jobs.filter((job) => groupOf(job) === group).map(heldLine)));
    item.append(list);
  }
  if (worker.plan) {
    const details = make('details');
    details.append(make('summary', '', say('plan')), make('pre', '', worker.plan));
    item.append(details);
  }
  const buttons = make('div', 'inline');
  buttons.append(...flowButtons('worker', worker.name, worker.name, worker.state));
  item.append(buttons);
  return item;
}

// It may only be cut off: while its stop stands it takes up nothing when it comes back.
function silentCard({ name, state }) {
  const item = make('li', 'worker');
  const head = make('div', 'worker-head');
  head.append(make('h3', '', name), pill(state));
  const buttons = make('div', 'inline');
  buttons.append(...flowButtons('worker', name, name, state));
  item.append(head, make('span', 'note', say('silent')), buttons);
  return item;
}

export function drawWorkers(workers, stopped) {
  const alive = new Set(workers.map(({ name }) => name));
  const silent = stopped.filter(({ kind, name }) => kind === 'worker' && !alive.has(name)).map((stop) => ({ ...stop, isSilent: true }));
  $('no-workers').hidden = workers.length > 0;
  const shown = [...workers.map(({ last_heard_seconds, ...rest }) => rest), ...silent];
  keep($('workers'), shown, ({ name }) => name, (one) => (one.isSilent ? silentCard(one) : card(one)));
}
