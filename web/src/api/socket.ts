/** The live connection: speaks `/ws`, and comes back by itself, with the same client id, when it is cut. */
import { decodeFrame } from "../lib/frames";
import type { Frame } from "../lib/frames";
import { isObject, parseJson } from "../lib/json";
import type { ServerEvent } from "../lib/run";
import { socketUrl } from "./client";

export interface SocketHandlers {
  onOpen(): void;
  onClosed(): void;
  onEvent(event: ServerEvent): void;
  onFrame(frame: Frame): void;
}

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8_000;

export class LiveSocket {
  private socket: WebSocket | null = null;
  private timer: number | undefined;
  private delay = FIRST_DELAY_MS;
  private stopped = false;

  constructor(
    private readonly clientId: string,
    private readonly handlers: SocketHandlers,
  ) {}

  connect(): void {
    this.stopped = false;
    window.clearTimeout(this.timer);
    const socket = new WebSocket(socketUrl(this.clientId));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => this.opened(socket);
    socket.onmessage = (message) => this.received(message.data);
    socket.onclose = () => this.closed(socket);
  }

  /** Tries again at once instead of after the present delay. */
  retryNow(): void {
    if (this.socket?.readyState === WebSocket.OPEN || this.socket?.readyState === WebSocket.CONNECTING) return;
    this.delay = FIRST_DELAY_MS;
    this.connect();
  }

  get isOpen(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  close(): void {
    this.stopped = true;
    window.clearTimeout(this.timer);
    this.socket?.close();
  }

  private opened(socket: WebSocket): void {
    if (socket !== this.socket) return;
    this.delay = FIRST_DELAY_MS;
    // The server reads what a client can do from the first message only.
    socket.send(JSON.stringify({ type: "feature_flags", data: { supports_preview_metadata: true } }));
    this.handlers.onOpen();
  }

  private received(data: unknown): void {
    if (data instanceof ArrayBuffer) {
      const frame = decodeFrame(data);
      if (frame) this.handlers.onFrame(frame);
    } else if (typeof data === "string") {
      const event = readEvent(data);
      if (event) this.handlers.onEvent(event);
    }
  }

  private closed(socket: WebSocket): void {
    if (socket !== this.socket || this.stopped) return;
    this.handlers.onClosed();
    const jitter = Math.random() * 0.3 * this.delay;
    this.timer = window.setTimeout(() => this.connect(), this.delay + jitter);
    this.delay = Math.min(LONGEST_DELAY_MS, this.delay * 2);
  }
}

function readEvent(text: string): ServerEvent | null {
  try {
    const message = parseJson(text);
    if (!isObject(message) || typeof message["type"] !== "string") return null;
    return { type: message["type"], data: isObject(message["data"]) ? message["data"] : {} };
  } catch {
    return null;
  }
}
