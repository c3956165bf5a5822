// A word at the foot of the page, above whatever dialog is open, and one thing to do about it where there is one.
import { make } from './cards.js';

const SHOWN_MS = 3200;
const READ_MS = 80; // a character: a longer text stays longer
const SHOWN_TO_ACT_MS = 9000;
let timer = 0;
let whenGone = null;

// The text goes; what it offered can not be done any more.
export function endToast() {
  clearTimeout(timer);
  document.getElementById('toast').classList.remove('shown');
  const gone = whenGone;
  whenGone = null;
  gone?.();
}

// Whether there is something to be done about it still.
export const isOffering = () => whenGone !== null;

function offer({ words, run }) {
  const button = make('button', 'toast-act', words);
  button.type = 'button';
  button.addEventListener('click', run);
  return button;
}

// All else is inert while a dialog is open, and what stands in a dialog goes with it.
function place(element) {
  const above = document.querySelector('dialog[open]') ?? document.body;
  if (element.parentElement === above) return;
  above.append(element);
  if (above !== document.body) above.addEventListener('close', () => place(element), { once: true });
}

// `act`: { words, run, onGone }; `onGone` is called once, when the offer is over.
export function toast(text, act) {
  endToast();
  const element = document.getElementById('toast');
  place(element);
  element.replaceChildren(make('span', '', text), ...(act ? [offer(act)] : []));
  element.classList.add('shown');
  whenGone = act?.onGone ?? null;
  timer = setTimeout(endToast, act ? SHOWN_TO_ACT_MS : Math.max(SHOWN_MS, text.length * READ_MS));
}
