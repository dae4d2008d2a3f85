// The addresses of the page: `/` is the list, `/drops/{dropId}` is the page of a drop.

const DROP = /^\/drops\/([0-9a-f-]{36})$/i;

const dropIdOf = (path) => DROP.exec(path)?.[1].toLowerCase() ?? null;

/** Calls `onRoute(dropId)`, with null for the list, at once and at each change. Returns `go(path)`. */
export function startRouter(onRoute) {
  const route = () => onRoute(dropIdOf(location.pathname));

  function go(path) {
    if (path === location.pathname) return;
    history.pushState(null, "", path);
    scrollTo(0, 0);
    route();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]"), isPlain = !event.button && !event.defaultPrevented;
    if (!link || !isPlain || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const { origin, pathname } = link;
    if (origin !== location.origin || (pathname !== "/" && !dropIdOf(pathname))) return; // the browser follows it
    event.preventDefault();
    go(pathname);
  });
  addEventListener("popstate", route);
  route();
  return go;
}
