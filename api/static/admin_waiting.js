// The jobs that wait in one tenant's lanes, and their order.
import { $, button, cell, fitTables, keep, rowHead, toast, when } from './account_parts.js';
import { make } from './cards.js';
import { say } from './words.js';

const LANES = ['interactive', 'batch'];
const SHOWN = 50;
let ask = null;
let seen = { tenant: '', jobs: [] };

async function read() {
  const tenant = encodeURIComponent(seen.tenant);
  const lists = await Promise.all(LANES.map((lane) => ask(`/v1/admin/waiting?tenant=${tenant}&lane=${lane}&limit=${SHOWN}`)));
  seen.jobs = lists.flatMap((list) => list.data);
  draw();
}

function move(job, to) {
  return async () => {
    try {
      await ask(`/v1/admin/jobs/${job.id}/move`, { method: 'POST', body: { to } });
      toast(say(to === 'front' ? 'movedFront' : 'movedBack'));
    } catch (problem) {
      if (problem.status !== 404 && problem.status !== 409) throw problem;
      toast(say('movedOn'));
    }
    await read();
    refocus(job, to);
  };
}

// A row that moved has lost the focus; of one that is gone, the dialog's own button takes it.
function refocus(job, to) {
  const again = $('waiting-jobs').querySelector(`[data-job="${job.id}"] [data-to="${to}"]`);
  (again ?? $('waiting-dialog').querySelector('.go')).focus();
}

function draw() {
  $('waiting-title').textContent = say('waitingOf', { name: seen.tenant });
  $('no-waiting').hidden = seen.jobs.length > 0;
  $('waiting-table').hidden = seen.jobs.length === 0;
  keep($('waiting-jobs'), seen.jobs, (one) => one.id, (one) => {
    const row = make('tr');
    const name = one.id.slice(0, 8);
    row.dataset.job = one.id;
    const buttons = [['front', 'toFront', 'toFrontOf'], ['back', 'toBack', 'toBackOf']].map(([to, words, label]) => {
      const made = button(say(words), move(one, to), { label: say(label, { name }) });
      made.dataset.to = to;
      return made;
    });
    row.append(rowHead(name), cell(say(`lane_${one.lane}`)), cell(say(`priority_${one.priority}`)), cell(when(one.created_at)), cell(buttons, 'end'));
    return row;
  });
  fitTables();
}

export function waitingButton(tenant) {
  return button(say('order'), async () => {
    seen = { tenant, jobs: [] };
    await read();
    $('waiting-dialog').showModal();
    fitTables();
  }, { label: say('orderOf', { name: tenant }) });
}

export function wireWaiting(parts) {
  ask = parts.ask;
}
