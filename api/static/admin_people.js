// Tenants with their usage and limits, keys, invites.
import { $, button, cell, keep, number, rowHead, showSecret, spark, toast, told, when, whenEnds } from './account_parts.js';
import { make } from './cards.js';
import { submitOnce } from './pressing.js';
import { say } from './words.js';

const EDITED = [
  ['daily_units', 'limitDaily', 1], ['burst', 'limitBurst', 1], ['burst_per_second', 'limitRate', 'any'], ['queued_jobs', 'limitQueued', 1],
  ['running_jobs', 'limitRunning', 1], ['weight', 'limitWeight', 'any'],
];
const DAY_SECONDS = 86400;
let service = null; // { ask, refresh, replaceKey }
let people = { tenants: [], usage: new Map(), keys: [], invites: [], isOpen: true };
let chosen = null;

export async function readPeople() {
  const [tenants, usage, keys, invites, signUp] = await Promise.all([
    service.ask('/v1/admin/tenants'), service.ask('/v1/admin/usage'), service.ask('/v1/keys'), service.ask('/v1/admin/invites'), service.ask('/v1/sign-up'),
  ]);
  people = { tenants: tenants.data, usage: new Map(usage.data.map((one) => [one.tenant, one])), keys: keys.data, invites: invites.data, isOpen: signUp.open };
}

async function act(path, options, words) {
  const answer = await service.ask(path, options);
  toast(words);
  await service.refresh();
  return answer;
}

// Tenants ------------------------------------------------------------------------------------------------------------

function tenantButtons(tenant) {
  const { name } = tenant;
  const edit = button(say('edit'), () => openLimits(tenant), { label: say('editOf', { name }) });
  if (name === 'local' || name === 'admin') return [edit];
  if (tenant.ban_reason) {
    return [edit, button(say('unban'), () => act(`/v1/admin/tenants/${name}/unban`, { method: 'POST' }, say('saved')), { label: say('unbanOf', { name }) })];
  }
  return [edit, button(say('ban'), () => openBan(tenant), { className: 'small danger', label: say('banOf', { name }) })];
}

function drawTenants() {
  const rows = people.tenants.map((tenant) => ({ tenant, usage: people.usage.get(tenant.name)?.days ?? [] }));
  keep($('tenants'), rows, ({ tenant }) => tenant.name, ({ tenant, usage }) => {
    const row = make('tr');
    row.append(rowHead(tenant.name, tenant.ban_reason ? say('banned', { reason: tenant.ban_reason }) : ''), cell(number(tenant.used_today), 'num'),
      cell(number(tenant.limits.daily_units), 'num'), cell(spark(usage)), cell(`× ${number(tenant.limits.weight)}`, 'num'), cell(tenantButtons(tenant), 'end'));
    return row;
  });
}

function openLimits(tenant) {
  chosen = tenant;
  $('limits-title').textContent = say('editOf', { name: tenant.name });
  $('limits-error').textContent = '';
  $('limits-fields').replaceChildren(...EDITED.flatMap(([name, words, step]) => {
    const label = make('label', '', say(words));
    const input = make('input');
    label.htmlFor = input.id = `limit-${name}`;
    Object.assign(input, { type: 'number', min: '0', step: String(step), required: true, value: String(tenant.limits[name]) });
    return [label, input];
  }));
  $('limits-dialog').showModal();
}

async function saveLimits() {
  const wanted = Object.fromEntries(EDITED.map(([name]) => [name, Number($(`limit-${name}`).value)]).filter(([name, value]) => value !== chosen.limits[name]));
  try {
    await act(`/v1/admin/tenants/${chosen.name}`, { method: 'PATCH', body: wanted }, say('saved'));
    $('limits-dialog').close();
  } catch (problem) { $('limits-error').textContent = told(problem); }
}

function openBan(tenant) {
  chosen = tenant;
  $('ban-title').textContent = say('banOf', { name: tenant.name });
  $('ban-error').textContent = '';
  $('ban-dialog').showModal();
}

async function ban() {
  try {
    await act(`/v1/admin/tenants/${chosen.name}/ban`, { method: 'POST', body: { reason: $('ban-reason').value, cancel_jobs: true } }, say('bannedToast', { name: chosen.name }));
    $('ban-form').reset();
    $('ban-dialog').close();
  } catch (problem) { $('ban-error').textContent = told(problem); }
}

// Keys and invites ---------------------------------------------------------------------------------------------------

const isOpenKey = (key) => !key.revoked_at && !(key.expires_at && key.expires_at * 1000 < Date.now());

async function rotate(key) {
  if (!confirm(say('confirmRotate', { hint: key.hint, name: key.tenant }))) return;
  await service.replaceKey(async () => {
    const made = await service.ask(`/v1/admin/keys/${key.id}/rotate`, { method: 'POST', body: { overlap_seconds: 0 } });
    showSecret(made.key); // before anything else can fail
    toast(say('rotated'));
    return made.key;
  });
}

async function revoke(key) {
  if (!confirm(say('confirmRevoke', { hint: key.hint, name: key.tenant }))) return;
  await act(`/v1/keys/${key.id}`, { method: 'DELETE' }, say('revoked'));
}

function aboutKey(key) {
  const bounds = [['limitDaily', key.daily_units], ['limitBurst', key.burst]].filter(([, value]) => value !== null);
  return [key.label, ...bounds.map(([words, value]) => `${say(words)}: ${number(value)}`)].filter(Boolean).join(' · ');
}

function drawKeys() {
  keep($('keys'), people.keys.filter(isOpenKey), (key) => key.id, (key) => {
    const row = make('tr');
    const named = { hint: key.hint, name: key.tenant };
    row.append(rowHead(key.tenant, aboutKey(key)), cell([make('span', 'mono', `…${key.hint}`), ...(key.admin ? [' ', make('span', 'pill pill-admin', 'admin')] : [])]), cell(when(key.last_used_at)), cell(whenEnds(key.expires_at)),
      cell([button(say('rotateKey'), () => rotate(key), { label: say('rotateOf', named) }), button(say('revoke'), () => revoke(key), { className: 'small danger', label: say('revokeOf', named) })], 'end'));
    return row;
  });
}

function drawInvites() {
  $('sign-up-off').hidden = people.isOpen;
  $('invites-table').hidden = people.invites.length === 0;
  keep($('invites'), people.invites, (one) => one.id, (one) => {
    const row = make('tr');
    row.append(rowHead(`…${one.hint}`, one.label), cell(`${number(one.left)} / ${number(one.uses)}`, 'num'), cell(whenEnds(one.expires_at)),
      cell(button(say('withdraw'), () => act(`/v1/admin/invites/${one.id}`, { method: 'DELETE' }, say('withdrawn')), { label: say('withdrawOf', { hint: one.hint }) }), 'end'));
    return row;
  });
}

async function makeKey() {
  try {
    const body = { tenant: $('key-tenant').value.trim(), label: $('key-label').value, admin: $('key-admin').checked };
    if ($('key-days').value) body.expires_in = Number($('key-days').value) * DAY_SECONDS;
    for (const [name, input] of [['daily_units', $('key-daily')], ['burst', $('key-burst')]]) if (input.value) body[name] = Number(input.value);
    const made = await service.ask('/v1/keys', { method: 'POST', body });
    $('key-form').reset();
    showSecret(made.key);
    await service.refresh();
  } catch (problem) { toast(told(problem)); }
}

async function makeInvite() {
  try {
    const made = await service.ask('/v1/admin/invites', { method: 'POST', body: { uses: Number($('invite-uses').value), expires_in: Number($('invite-days').value) * DAY_SECONDS } });
    showSecret(made.code);
    await service.refresh();
  } catch (problem) { toast(told(problem)); }
}

export function drawPeople() {
  drawTenants();
  drawKeys();
  drawInvites();
}

export function wirePeople(given) {
  service = given;
  submitOnce($('limits-form'), saveLimits);
  $('limits-cancel').addEventListener('click', () => $('limits-dialog').close());
  submitOnce($('ban-form'), ban);
  $('ban-cancel').addEventListener('click', () => $('ban-dialog').close());
  submitOnce($('key-form'), makeKey);
  submitOnce($('invite-form'), makeInvite);
}
