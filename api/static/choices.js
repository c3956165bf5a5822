// The shape and the number of pictures chosen last are still chosen after a reload.
import { local } from './storage.js';

const KEPT = 'zimg.choices';

function kept() {
  try { return Object.entries(JSON.parse(local.get(KEPT)) ?? {}); } catch { return []; }
}

export function keepChoices(form) {
  const choices = [...form.querySelectorAll('input[type=radio]')];
  for (const [name, value] of kept()) {
    const choice = choices.find((one) => one.name === name && one.value === value);
    if (choice) choice.checked = true;
  }
  form.addEventListener('change', () => {
    const chosen = choices.filter((one) => one.checked).map((one) => [one.name, one.value]);
    local.set(KEPT, JSON.stringify(Object.fromEntries(chosen)));
  });
}
