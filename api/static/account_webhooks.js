// Webhooks on the account page: where events go, what became of each, and sending one again.
import { $, answerCell, button, cell, fitTables, keep, number, rowHead, toast, when } from './account_parts.js';
import { make } from './cards.js';
import { openGrowing } from './growing.js';
import * as service from './service.js';
import { say } from './words.js';

const AT_ONCE = 10;
const PILLS = { pending: 'running', delivered: 'succeeded', failed: 'failed' };

// `tell` tells a problem.
export function openWebhooks(tell) {
  let endpoints = [], chosen = null; // the id of the one whose log is shown
  let reads = 0; // what is asked for anew makes an answer that is on its way worth nothing

  const named = ({ url }) => url ?? say('endpointOfRequests');

  const log = openGrowing((limit, after) => service.ask(
    `/v1/webhooks/${chosen}/deliveries?limit=${limit}${after ? `&cursor=${after}` : ''}${$('log-failed').checked ? '&status=failed' : ''}`,
  ), AT_ONCE);

  // `isAnew`: the log is another one from now on.
  async function read(isAnew = false) {
    const mine = ++reads;
    if (isAnew) log.dropAnswers();
    const { data } = await service.ask('/v1/webhooks');
    if (mine !== reads) return;
    const before = chosen;
    chosen = (data.find((one) => one.id === chosen) ?? data[0])?.id ?? null;
    if (chosen) await log.refresh(isAnew || chosen !== before);
    else log.clear();
    if (mine !== reads) return;
    endpoints = data;
    draw();
  }

  async function more() {
    await log.more();
    draw();
  }

  function choose(id) {
    chosen = id;
    return read(true);
  }

  async function turnOn(id) {
    await service.ask(`/v1/webhooks/${id}`, { method: 'PATCH', body: JSON.stringify({ enabled: true }) });
    await read();
  }

  async function sendAgain(id) {
    await service.send(`/v1/webhooks/${chosen}/deliveries/${id}/resend`);
    toast(say('sentAgain'));
    await read();
  }

  const doing = (action) => () => action().catch(tell);

  function endpointRow(one) {
    const row = make('tr');
    const head = rowHead(named(one), one.disabled_because ?? '');
    head.classList.add('prompt');
    const acts = [
      ...(one.enabled ? [] : [button(say('turnOn'), doing(() => turnOn(one.id)), { label: say('turnOnOf', { name: named(one) }) })]),
      ...(one.isAlone ? [] : [chooser(one)]),
    ];
    row.append(head, cell(one.events.join(', ') || say('allEvents'), 'long'),
      cell(make('span', `pill pill-${one.enabled ? 'open' : 'paused'}`, say(one.enabled ? 'endpointOn' : 'endpointOff'))), cell(acts, 'end'));
    return row;
  }

  function chooser(one) {
    const choice = button(say('deliveries'), doing(() => choose(one.id)), { label: say('deliveriesOf', { name: named(one) }) });
    choice.setAttribute('aria-pressed', String(one.isChosen));
    return choice;
  }

  function deliveryRow({ id, type, url, event_id: event, state, made, next, tries, last }) {
    const row = make('tr');
    const name = `${type}, ${when(made)}`;
    row.append(rowHead(type, url ?? event), cell(make('span', `pill pill-${PILLS[state]}`, say(`delivery_${state}`))), last ? answerCell(last) : cell('–'),
      cell(number(tries), 'num'), cell(when(made)), cell(next ? when(next) : '–'),
      cell(button(say('sendAgain'), doing(() => sendAgain(id)), { label: say('sendAgainOf', { name }) }), 'end'));
    return row;
  }

  function draw() {
    const sent = log.items();
    const isAlone = endpoints.length === 1;
    for (const id of ['endpoints-table', 'log']) $(id).hidden = endpoints.length === 0;
    $('no-endpoints').hidden = endpoints.length > 0;
    keep($('endpoints'), endpoints.map((one) => ({ ...one, isAlone, isChosen: one.id === chosen })), (one) => one.id, endpointRow);
    const shown = endpoints.find((one) => one.id === chosen);
    if (shown) $('log-title').textContent = say('deliveriesTo', { name: named(shown) });
    $('no-deliveries').textContent = sent.length ? '' : say($('log-failed').checked ? 'noneGivenUp' : 'noDeliveries');
    $('deliveries-table').hidden = sent.length === 0;
    $('more-deliveries').hidden = !log.hasMore();
    keep($('deliveries'), sent.map((one) => ({
      id: one.id, type: one.type, url: one.url, event_id: one.event_id, state: one.state, made: one.created_at, next: one.next_attempt_at,
      tries: one.attempts.length, last: one.attempts.at(-1),
    })), (one) => one.id, deliveryRow);
    fitTables();
  }

  $('more-deliveries').addEventListener('click', doing(more));
  $('log-failed').addEventListener('change', doing(() => read(true)));

  return {
    read, draw,
    // Nothing of whose account was shown stays.
    reset() {
      reads += 1;
      [endpoints, chosen] = [[], null];
      log.clear();
      $('log-failed').checked = false;
      draw();
    },
  };
}
