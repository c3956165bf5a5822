// What the bar of every page can do: light or dark, English or Chinese.
import { local } from './storage.js';
import { language, switchLanguage } from './words.js';

const element = (id) => document.getElementById(id);

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = isDark ? 'light' : 'dark';
  local.set('zimg.theme', root.dataset.theme);
}

function showLanguage() {
  element('language').textContent = language === 'en' ? '中文' : 'English';
  element('language').lang = language === 'en' ? 'zh-CN' : 'en';
}

// The page can do what it shows.
export const showReady = () => element('not-loaded').remove();

export function wireBar(redraw) {
  const stored = local.get('zimg.theme');
  if (stored) document.documentElement.dataset.theme = stored;
  element('theme').addEventListener('click', switchTheme);
  element('language').addEventListener('click', () => { switchLanguage(); showLanguage(); redraw(); });
  showLanguage();
}
