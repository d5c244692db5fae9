/* SIGINT, SIGTERM and SIGHUP as an abort signal. A second one ends the process without waiting any longer. */
import { ConvoyError } from '../errors.js';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Cancellation {
  readonly signal: AbortSignal;
  readonly dispose: () => void;
}

export function cancelOnSignals(): Cancellation {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(1);
    controller.abort(new ConvoyError('cancelled', `interrupted by ${name}`));
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  return {
    signal: controller.signal,
    dispose: () => {
      for (const name of SIGNALS) process.off(name, onSignal);
    },
  };
}
