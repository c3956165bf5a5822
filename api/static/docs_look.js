// Before anything is drawn: as dark as the other pages are. Swagger UI has its dark look under this class.
document.documentElement.classList.toggle('dark-mode', localStorage.getItem('zimg.theme')
  ? localStorage.getItem('zimg.theme') === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches);
