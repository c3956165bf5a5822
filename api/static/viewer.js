// The large view of one picture, with everything one can do with it.
import { make } from './cards.js';
import { copyPicture, copyText } from './clipboard.js';
import * as service from './service.js';
import { language, say, saySize, sayTime } from './words.js';
import { isGone } from './zip.js';

const $ = (id) => document.getElementById(id);
const dialog = $('viewer');
const OF_THE_FILE = ['download', 'copy-picture', 'copy-link']; // what a picture that is gone can not do
let shown = null, isMissing = false, wasAskedAgain = false;
let hooks = {};

const localUrl = (job) => job.images[0].url.replace(/^https?:\/\/[^/]+/, '');

export function setUpViewer(given) {
  hooks = given;
  $('viewer-close').addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener('close', leave);
  $('viewer-image').addEventListener('error', () => { if (shown) tellWhy(shown); });
  dialog.addEventListener('keydown', (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return; // Alt and an arrow is the browser's own
    if (event.key === 'ArrowLeft') turn(-1);
    if (event.key === 'ArrowRight') turn(1);
  });
  $('newer').addEventListener('click', () => turn(-1));
  $('older').addEventListener('click', () => turn(1));
  $('copy-link').addEventListener('click', copyLink);
  $('copy-picture').addEventListener('click', copyShown);
  $('star').addEventListener('click', () => { hooks.onStar(shown); fill(); });
  $('again').addEventListener('click', () => { const job = shown; dialog.close(); hooks.onAgain(job); });
  $('vary').addEventListener('click', () => { const job = shown; dialog.close(); hooks.onVary(job); });
  $('delete').addEventListener('click', () => { if (window.confirm(say('confirmDelete'))) { const job = shown; dialog.close(); hooks.onDelete(job); } });
}

export function openViewer(job) {
  show(job);
  if (!dialog.open) dialog.showModal();
}

export function closeViewer() { if (dialog.open) dialog.close(); }
// It is gone: deleted in another tab, say.
export function loseShown(id) {
  if (shown?.id !== id) return;
  isMissing = true;
  fill();
  tellMissing(say('pictureGone'));
}

export function refreshViewer() { if (shown) fill(); }

function show(job) {
  shown = job;
  [isMissing, wasAskedAgain] = [false, false];
  $('no-copy').hidden = true;
  tellMissing('');
  fill();
}

// The focus goes to the card, unless somebody types elsewhere already: browsers tell of a closed dialog a little later.
// The card of a picture that is gone goes, too.
function leave() {
  const [job, wasMissing] = [shown, isMissing];
  shown = null;
  if (!job) return;
  const card = hooks.cardOf(job.id);
  const beside = card?.nextElementSibling ?? card?.previousElementSibling;
  if (wasMissing) hooks.onGone(job.id);
  if (document.activeElement?.matches('input, textarea')) return;
  (wasMissing ? beside?.querySelector('button') ?? $('prompt') : card?.querySelector('button'))?.focus();
}

function tellMissing(words) {
  $('viewer-missing').textContent = words;
  $('viewer-missing').hidden = !words;
  $('viewer-image').hidden = Boolean(words);
  const acts = OF_THE_FILE.map($);
  if (isMissing && acts.includes(document.activeElement)) $('viewer-close').focus();
  for (const act of acts) act.hidden = isMissing;
}

// The picture could not be loaded: the service knows whether it is gone.
async function tellWhy(job) {
  const problem = await service.isThere(job.id).then(() => null, (met) => met);
  if (shown !== job || problem?.isOutdated) return;
  if (!problem) return loadOnceMore();
  isMissing = isGone(problem);
  tellMissing(isMissing ? say('pictureGone') : problem.status ? problem.message : say('pictureLate'));
}

// It is there: what broke was its way here.
function loadOnceMore() {
  if (wasAskedAgain) return tellMissing(say('pictureLate'));
  wasAskedAgain = true;
  $('viewer-image').src = localUrl(shown);
}

// Behind the last one that is loaded there may be more.
async function turn(step) {
  const from = shown;
  while (step > 0 && shown === from && hooks.isLastOfMore(from.id) && await hooks.loadOlder());
  const next = shown === from && hooks.neighbor(from.id, step);
  if (next) show(next);
}

async function copyLink() {
  try { await copyText(shown.images[0].url); hooks.onToast(say('linkCopied')); } catch { hooks.onToast(say('notCopied')); }
}

// Where it can not be copied the viewer says why, and how else one gets it.
async function copyShown() {
  const job = shown;
  try {
    await copyPicture(service.picture(job.id));
    hooks.onToast(say('pictureCopied'));
  } catch (problem) {
    if (shown !== job) return;
    if (problem instanceof service.Problem) return tellWhy(job);
    $('no-copy-why').textContent = say(isSecureContext ? 'noCopyDenied' : 'noCopyHttp');
    $('no-copy').hidden = false;
  }
}

// A button that can do no more would take the focus with it, and the viewer's keys.
function showTurns(hasNewer, hasOlder) {
  const focused = document.activeElement;
  [$('newer').disabled, $('older').disabled] = [!hasNewer, !hasOlder];
  if (focused?.matches('.turn:disabled')) (dialog.querySelector('.turn:enabled') ?? $('viewer-close')).focus();
}

function fill() {
  const url = localUrl(shown);
  const image = $('viewer-image');
  if (image.getAttribute('src') !== url || (image.complete && !image.naturalWidth)) image.src = url;
  image.alt = shown.prompt;
  [image.width, image.height] = [shown.images[0].width, shown.images[0].height];
  $('viewer-prompt').textContent = shown.prompt;
  $('download').href = `${url}?download`;
  $('no-copy-open').href = url;
  $('star').setAttribute('aria-pressed', String(hooks.isStarred(shown)));
  showTurns(hooks.neighbor(shown.id, -1), hooks.neighbor(shown.id, 1) || hooks.isLastOfMore(shown.id));
  const made = shown.effective_parameters;
  const rows = [['sizeFact', saySize(made.size)], ['seedFact', made.seed], ['presetFact', made.preset], ['modelFact', shown.model.id],
    ['tookFact', sayTime(Math.max(1, shown.completed_at - shown.created_at))],
    ['madeFact', new Date(shown.created_at * 1000).toLocaleString(language, { dateStyle: 'medium', timeStyle: 'short' })]];
  $('facts').replaceChildren(...rows.flatMap(([key, value]) => [make('dt', '', say(key)), make('dd', '', String(value))]));
}
