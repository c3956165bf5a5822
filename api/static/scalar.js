// Nothing of it may come from or go to another host: no fonts, no proxy, no telemetry, no assistant.
Scalar.createApiReference('#scalar', {
  url: '/openapi.json', darkMode: document.documentElement.classList.contains('dark-mode'), hideDarkModeToggle: true,
  withDefaultFonts: false, telemetry: false, showDeveloperTools: 'never', hideClientButton: true, agent: { disabled: true },
  mcp: { disabled: true },
});
