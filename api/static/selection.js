// Choosing pictures, and saving the chosen ones as a ZIP.
import { say } from './words.js';
import { isGone, saveAsZip, tellMissing } from './zip.js';

const $ = (id) => document.getElementById(id);

// `pictures` gives those that are seen: a filter hides the others from the ZIP, too.
export function openSelection({ pictures, draw, onGone, onToast }) {
  const ids = new Set();
  let isOn = false, isSaving = false;

  const chosen = () => pictures().filter((job) => ids.has(job.id));

  function show() {
    pictures().forEach(draw);
    const { length: n } = chosen();
    $('select').setAttribute('aria-pressed', String(isOn));
    $('select').textContent = say(isOn ? 'selectDone' : 'select');
    $('download-selection').hidden = !isOn || n === 0;
    if (!isSaving) $('download-selection').textContent = say('downloadSelection', { n });
  }

  function turn(wanted) {
    isOn = wanted;
    ids.clear();
    show();
  }

  async function save() {
    if (isSaving) return;
    isSaving = true;
    const wanted = chosen();
    try {
      const missing = await saveAsZip(wanted, (at) => { $('download-selection').textContent = say('zipping', { at, of: wanted.length }); });
      for (const { job, problem } of missing) if (isGone(problem)) onGone(job.id);
      if (missing.length) onToast(tellMissing(missing, wanted.length));
    } finally {
      isSaving = false;
      show();
    }
  }

  $('select').addEventListener('click', () => turn(!isOn));
  $('download-selection').addEventListener('click', save);
  return {
    show, end: () => turn(false),
    isOn: () => isOn, has: (id) => ids.has(id), lose: (id) => ids.delete(id),
    toggle(id) { if (!ids.delete(id)) ids.add(id); show(); },
  };
}
