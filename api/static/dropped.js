// A picture that is dropped or pasted here shows what made it, and Go makes it again: with its own parameters where this
// service draws with them, and where it does not, the page says what it draws with in their place.
import { readParameters } from './png.js';
import * as service from './service.js';
import { toast } from './toast.js';
import { say, saySize } from './words.js';

const $ = (id) => document.getElementById(id);
const ASKING_MS = 5000;
const VARIATION_MOST = 1000; // characters: the metadata of a job has bounds

// What this service draws with for whose session it is; what is `known` of it where it does not answer.
async function askWhatIsServed(known) {
  const options = { signal: AbortSignal.timeout(ASKING_MS) };
  try {
    const [models, account] = await Promise.all([service.models(options), service.account(options)]);
    return { models, preset: account.preset ?? models[0].preset };
  } catch {
    return { models: known, preset: known?.[0].preset };
  }
}

// The model that draws it, or null where it is not known what the service has.
function modelFor(found, served) {
  if (!served.models) return null;
  return served.models.find(({ id }) => id === found.model) ?? served.models[0];
}

function differences(found, served) {
  const ours = modelFor(found, served);
  const isOtherModel = ours && found.model && ours.id !== found.model;
  const isOtherVersion = ours && ours.id === found.model && found.revision && ours.revision !== found.revision;
  const isOtherPreset = served.preset && found.preset && served.preset !== found.preset;
  return [
    ...(isOtherModel ? [say('otherModel', { ours: ours.id, theirs: found.model })] : []),
    ...(isOtherVersion ? [say('otherModel', { ours: `${ours.id}@${ours.revision}`, theirs: `${found.model}@${found.revision}` })] : []),
    ...(isOtherPreset ? [say('otherPreset', { ours: served.preset, theirs: found.preset })] : []),
  ];
}

// A spreadsheet copies a picture of its cells beside their text.
const hasText = (data) => data.types.includes('text/plain');

// `onWritten` is called when a prompt was put into the field.
export function openDropped({ known, onWritten }) {
  let found = null;  // its parameters, until another prompt is written or they are put away
  let served = null;
  let written = '';  // its prompt as the field has it, whose line ends are its own

  function show() {
    const differing = found ? differences(found, served) : [];
    $('repeated').hidden = !found;
    $('repeated-note').hidden = differing.length === 0;
    $('repeated-note').textContent = differing.length ? say('otherwise', { what: differing.join(say('listJoin')) }) : '';
    if (!found) return;
    const head = say('repeatedChip', { seed: found.seed, size: saySize(found.size) });
    $('repeated-text').textContent = [head, found.preset, found.model].filter(Boolean).join(' · ');
  }

  function putAway() {
    found = null;
    show();
  }

  async function take(file) {
    const read = await readParameters(file).catch(() => null);
    if (!read) return toast(say('notOurs'));
    served = await askWhatIsServed(known());
    found = read;
    show();
    $('prompt').value = found.prompt;
    written = $('prompt').value;
    onWritten();
    $('prompt').focus();
    toast(say('repeated'));
  }

  // Text that is dragged is the browser's own affair.
  function hang(event) {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    document.body.classList.toggle('dropping', event.type === 'dragover' || event.type === 'dragenter');
  }

  function wire() {
    $('repeated').addEventListener('click', () => { putAway(); $('prompt').focus(); });
    $('prompt').addEventListener('input', () => { if (found && written !== $('prompt').value) putAway(); });
    for (const kind of ['dragover', 'dragenter', 'dragleave', 'drop']) document.addEventListener(kind, hang);
    document.addEventListener('drop', (event) => { if (event.dataTransfer?.files.length) take(event.dataTransfer.files[0]); });
    document.addEventListener('paste', (event) => { if (event.clipboardData?.files.length && !hasText(event.clipboardData)) take(event.clipboardData.files[0]); });
  }

  wire();
  return {
    putAway, show, // also in another language
    isFor: (prompt) => found !== null && prompt === written,
    // A model is named where there are several, or where the service has to say that it does not have it.
    request() {
      const model = (served.models ? modelFor(found, served).id : found.model) || undefined;
      const { prompt, size, seed, variation } = found;
      const isVaried = variation && prompt.includes(variation) && variation.length <= VARIATION_MOST;
      return { prompt, size, seed, model, ...(isVaried ? { metadata: { variation } } : {}) };
    },
  };
}
