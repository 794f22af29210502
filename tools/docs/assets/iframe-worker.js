// The search runs in a worker. Pages opened from the disk (file:) may not start one: there, a hidden frame does its work.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.deliver = (message) => setTimeout(() => {
        const event = new MessageEvent("message", { data: structuredClone(message) });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      });
      const script = new URL(url, document.baseURI).href;
      frame.srcdoc = `<script>self.postMessage = (data) => frameElement.deliver(data)</` + `script><script src="${script}"></` + `script>`;
      this.frame = frame;
      this.ready = new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
      document.documentElement.append(frame);
    }
    postMessage(message) {
      const data = structuredClone(message); // a worker never shares what it is sent
      const send = () => this.frame.contentWindow?.dispatchEvent(new MessageEvent("message", { data }));
      this.ready.then(() => setTimeout(send)); // a task of its own, as with a worker
    }
    terminate() {
      this.frame.remove();
    }
  };
}
