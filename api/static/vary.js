// Drawing a picture once more. The model changes little between seeds, so a variation changes the words; what was changed
// stands in the metadata.
import { MOST } from './prompt_length.js';
import { toast } from './toast.js';
import { say } from './words.js';

const METADATA_MOST = 4000; // bytes: the service reads 4,096, and counts some blanks more
const WORD_MOST = 40;       // letters: what is longer is cut in two, as Chinese is, which has no gaps
const TURNS = {
  en: ['seen from another side', 'in different light', 'from further away', 'closer, in detail', 'at another time of day', 'with other colors'],
  'zh-CN': ['换一个角度', '换一种光线', '拉远镜头', '近景细节', '换一个时刻', '换一组颜色'],
};
const JOINTS = { en: ', ', 'zh-CN': '，' };

// What the picture was drawn from, before it was varied itself.
function baseOf({ prompt, metadata }) {
  const { varied_from: from, variation } = metadata ?? {};
  if (typeof from === 'string' && from) return from;
  const end = typeof variation === 'string' && variation && Object.values(JOINTS).map((joint) => joint + variation).find((one) => prompt.endsWith(one));
  return end ? prompt.slice(0, -end.length) : prompt;
}

// Its beginning, as far as there is room, in whole words.
function cut(text, most) {
  const letters = [...text];
  if (letters.length <= most) return text;
  const kept = letters.slice(0, Math.max(1, most)).join('');
  const words = kept.replace(/[\s,，、]+[^\s,，、]*$/, '');
  return kept.length - words.length <= WORD_MOST ? words : kept;
}

// The base beside the variation where both have room; else it is told from the prompt.
function metadataOf(base, variation) {
  const whole = { varied_from: base, variation };
  return new TextEncoder().encode(JSON.stringify(whole)).length <= METADATA_MOST ? whole : { variation };
}

// The request for a variation of a job's picture.
export function variationOf(job) {
  const base = baseOf(job);
  const language = /[\u4e00-\u9fff]/.test(base) ? 'zh-CN' : 'en';
  const turns = TURNS[language];
  const turn = turns[Math.floor(Math.random() * turns.length)];
  const end = JOINTS[language] + turn;
  return { prompt: cut(base, MOST - end.length) + end, size: job.effective_parameters.size, metadata: metadataOf(base, turn) };
}

// The picture's own model; where that is not served any more the service's, and the page says so.
export function modelOf(job, served) {
  const { model } = job.effective_parameters;
  if (served.some(({ id }) => id === model)) return { model };
  toast(say('drawnWith', { ours: served[0].id, theirs: model }));
  return {};
}
