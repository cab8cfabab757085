// The line that somebody copies to take free GPUs; gleaner/taking.py writes the same.

import type { Offer } from "./view";

const UUID = /^(GPU|MIG)-[A-Za-z0-9_./-]+$/;

export function command(host: string, gpus: Offer["gpus"]): string {
  const devices = visibleDevices(gpus);
  return devices ? `ssh -t ${host} '${devices} exec $SHELL -l'` : `ssh ${host}`;
}

function visibleDevices(gpus: Offer["gpus"]): string | null {
  if (gpus.every(([gpu]) => UUID.test(gpu))) {
    return `CUDA_VISIBLE_DEVICES=${gpus.map(([gpu]) => gpu).join(",")}`;
  }
  if (gpus.some(([, index]) => index === null)) return null;
  return `CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=${gpus.map(([, index]) => index).join(",")}`;
}

const SHOWN_MS = 2_000;

/** Let buttons with `data-copy` copy their text. */
export function startCopying(): void {
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest<HTMLElement>(".copy");
    if (button) void copy(button, button.dataset["copy"] ?? "");
  });
}

async function copy(button: HTMLElement, text: string): Promise<void> {
  const isDone = await write(text);
  button.dataset["copied"] = String(isDone);
  const said = document.getElementById("copied");
  if (said) said.textContent = isDone ? "Copied." : "The browser did not let us copy.";
  setTimeout(() => {
    delete button.dataset["copied"];
    if (said) said.textContent = "";
  }, SHOWN_MS);
}

async function write(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain http to another machine there is no clipboard but this.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone;
  }
}
