/* How a server is reached, for whoever may not know the protocol: the command line and the coordinator. */
export { primaryConninfo } from '../wire/primary-conninfo.js';
export { resolveConnection as resolveConnectionSettings, type ConnectionSettings } from '../wire/conninfo.js';
