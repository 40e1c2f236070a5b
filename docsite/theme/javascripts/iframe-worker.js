// The search runs in a worker, and browsers start none for a page opened from a folder (file:). There a hidden frame takes its place.
// "iframe-worker" in the name tells the theme's offline plugin that it need not fetch one from another host.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      document.body.append(frame);
      const inside = frame.contentWindow;
      const address = new URL(url, location.href).href;
      this.ready = new Promise((done) => {
        inside.document.open();
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        inside.importScripts = (...urls) =>
          urls.reduce(
            (before, one) =>
              before.then(
                () =>
                  new Promise((loaded, failed) => {
                    const script = inside.document.createElement("script");
                    script.src = one;
                    script.onload = loaded;
                    script.onerror = failed;
                    inside.document.body.append(script);
                  }),
              ),
            Promise.resolve(),
          );
        const script = inside.document.createElement("script");
        inside.document.write("<!doctype html><title>search</title><body></body>");
        inside.document.close();
        script.src = address;
        script.onload = done;
        inside.document.body.append(script);
      });
      this.inside = inside;
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.inside.frameElement.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
