// One card for each job: what it waits for, how far it is, or its picture.
import { isDoubleClick } from './pressing.js';
import { say, sayTime } from './words.js';

export const ENDED = new Set(['succeeded', 'failed', 'canceled', 'expired', 'refused']);
export const isOpen = (job) => !ENDED.has(job.status);

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `/static/icons.svg#${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

function shapeOf(job) {
  const [width, height] = job.effective_parameters.size.split('x').map(Number);
  return (width / height).toFixed(4);
}
// What the service says about waiting; the card counts down by itself, and two times would differ.
const PATIENCE = /\s*(Wait \d+ \w+\.|请等待 \d+ (秒|分钟|小时)。)$/;
const short = (text) => (text.length > 90 ? `${text.slice(0, 90)}…` : text);

function unsentText({ unsent: { problem, opensAt }, isBehind, isSending }) {
  if (isBehind) return [say('unsent'), say('behind')];
  if (!problem) return [say(isSending ? 'sending' : 'unsent'), ''];
  const seconds = Math.ceil((opensAt - performance.now()) / 1000);
  const reason = problem.status ? problem.message.replace(PATIENCE, '').replace(/[.。]$/, '') : say('noAnswer');
  return [say('unsent'), seconds > 0 ? `${reason} · ${say('sendsIn', { time: sayTime(seconds) })}` : reason];
}

export function waitingText(job) {
  if (job.status === 'unsent') return unsentText(job);
  if (job.status === 'canceling') return [say('canceling'), ''];
  if (job.status === 'running') {
    const made = job.progress;
    if (!made) return [say('running'), say('waiting')];
    const detail = made.stage === 'denoise' || made.step > 0 && made.stage !== 'decode' && made.stage !== 'upload'
      ? say('step', { step: made.step, steps: made.steps }) : say(made.stage);
    return [say('running'), detail];
  }
  const place = job.queue_position;
  const head = place === null || place === undefined ? say('queued') : place === 0 ? say('onItsWay') : place === 1 ? say('next') : say('place', { position: place });
  if (job.paused) return [head, say('paused')];
  return [head, job.eta_seconds ? say('eta', { time: sayTime(job.eta_seconds) }) : ''];
}

// The card is built anew only when its kind changes, so focus and pictures stay.
export function drawCard(card, job, { isStarred, isSelecting, isSelected, onOpen, onCancel, onAgain, onRemove, onSelect }) {
  const kind = job.status === 'succeeded' ? 'picture' : isOpen(job) ? 'open' : 'ended';
  const look = `${kind}:${isStarred}:${isSelecting}:${document.documentElement.lang}:${kind === 'ended' ? [job.status, job.error?.message] : ''}`;
  if (card.dataset.look !== look) {
    card.dataset.look = look;
    card.replaceChildren(...(kind === 'picture' ? pictureParts(job, { isStarred, isSelecting, onOpen, onSelect })
      : kind === 'open' ? openParts(job, onCancel) : endedParts(job, onAgain, onRemove)));
  }
  card.dataset.status = job.status;
  card.style.setProperty('--shape', shapeOf(job));
  card.classList.toggle('selected', isSelecting && isSelected);
  const check = card.querySelector('.card-check');
  if (check) check.checked = isSelected;
  if (kind === 'open') updateOpen(card, job);
}

// Arabic and Hebrew run from right to left.
function promptOf(job) {
  const text = make('p', 'card-text', job.prompt);
  text.dir = 'auto';
  return text;
}

const AGAIN_MS = 1000;
const TRIES = 6;

// A thumbnail that could not be had once, too many asked for at a time say, is asked for again; one that is gone is so then, too.
function askAgain(image) {
  let tries = 0;
  image.addEventListener('error', () => {
    tries += 1;
    if (tries < TRIES) setTimeout(() => { image.src = image.getAttribute('src'); }, AGAIN_MS * 2 ** (tries - 1));
  });
}

// One that stayed away: the line, or whatever kept it, may be there again.
export function askForMissing() {
  for (const image of document.querySelectorAll('.card img')) if (image.complete && !image.naturalWidth) image.src = image.getAttribute('src');
}

function pictureParts(job, { isStarred, isSelecting, onOpen, onSelect }) {
  const button = make('button', 'card-open');
  button.type = 'button';
  button.setAttribute('aria-label', say(isSelecting ? 'selectPicture' : 'open', { prompt: short(job.prompt) }));
  button.addEventListener('click', () => (isSelecting ? onSelect() : onOpen()));
  const frame = make('span', 'card-picture');
  const image = make('img');
  image.loading = 'lazy';
  image.decoding = 'async';
  image.alt = job.prompt;
  image.sizes = '(max-width: 760px) 50vw, 280px';
  image.srcset = [320, 640].map((width) => `/i/${job.id}.webp?w=${width} ${width}w`).join(', ');
  image.src = `/i/${job.id}.webp?w=320`;
  askAgain(image);
  frame.append(image);
  button.append(frame);
  const parts = [button, promptOf(job)];
  if (isStarred) {
    const star = make('span', 'card-star');
    star.append(icon('star'));
    parts.push(star);
  }
  if (isSelecting) {
    const check = make('input', 'card-check');
    check.type = 'checkbox';
    check.setAttribute('aria-label', say('selectPicture', { prompt: short(job.prompt) }));
    check.addEventListener('change', onSelect);
    parts.push(check);
  }
  return parts;
}

function openParts(job, onCancel) {
  const box = make('div', 'waiting');
  const progress = make('progress');
  progress.max = 1;
  progress.setAttribute('aria-label', short(job.prompt));
  box.append(make('strong'), make('span'), progress, act(say('cancel'), say('cancelOf', { prompt: short(job.prompt) }), onCancel));
  return [box, promptOf(job)];
}

function updateOpen(card, job) {
  const [head, detail] = waitingText(job);
  card.querySelector('strong').textContent = head;
  card.querySelector('.waiting > span').textContent = detail;
  const value = job.progress?.value ?? 0;
  card.querySelector('progress').value = value;
  card.querySelector('progress').hidden = job.status !== 'running';
  card.querySelector('.quiet').disabled = job.status === 'canceling';
  card.querySelector('.waiting').style.setProperty('--done', `${Math.round(value * 100)}%`);
}

function act(words, label, action) {
  const button = make('button', 'quiet', words);
  button.type = 'button';
  if (label) button.setAttribute('aria-label', label);
  button.addEventListener('click', action);
  return button;
}

// What was canceled or failed can be removed; a prompt that was refused is kept for mending.
function endedParts(job, onAgain, onRemove) {
  const box = make('div', 'waiting');
  const isRefused = job.status === 'refused';
  const reason = isRefused ? job.unsent.problem.message : job.error?.message;
  box.append(make('strong', isRefused || job.status === 'failed' ? 'problem' : '', say(job.status)), make('span', '', reason ?? ''));
  const acts = make('div', 'waiting-acts');
  acts.append(act(say(isRefused ? 'edit' : 'again'), isRefused ? undefined : say('againOf', { prompt: short(job.prompt) }), (event) => { if (!isDoubleClick(event)) onAgain(); }));
  if (onRemove) acts.append(act(say('remove'), say('removeOf', { prompt: short(job.prompt) }), onRemove));
  box.append(acts);
  return [box, promptOf(job)];
}
