// Before anything is drawn: as dark as the other pages are. Swagger UI has its dark look under this class.
{
  let theme = null;
  try { theme = localStorage.getItem('zimg.theme'); } catch { /* no storage */ }
  document.documentElement.classList.toggle('dark-mode', theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches);
}
