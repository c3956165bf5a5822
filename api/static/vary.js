// The model changes little between seeds, so a variation changes the words; what was changed stands in the metadata.
const TURNS = {
  en: ['seen from another side', 'in different light', 'from further away', 'closer, in detail', 'at another time of day', 'with other colors'],
  'zh-CN': ['换一个角度', '换一种光线', '拉远镜头', '近景细节', '换一个时刻', '换一组颜色'],
};

// The request for a variation of a job's picture.
export function variationOf(job) {
  const base = job.metadata?.varied_from ?? job.prompt;
  const isChinese = /[\u4e00-\u9fff]/.test(base);
  const turns = TURNS[isChinese ? 'zh-CN' : 'en'];
  const turn = turns[Math.floor(Math.random() * turns.length)];
  return { prompt: `${base}${isChinese ? '，' : ', '}${turn}`, size: job.effective_parameters.size, metadata: { varied_from: base, variation: turn } };
}
