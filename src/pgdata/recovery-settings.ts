/*
 * What a data directory is given so that it starts as a standby or recovers to a point: settings at the end of
 * postgresql.auto.conf, and the name of a signal file. For `backup -R` and `restore`.
 * After WriteRecoveryConfig of src/fe_utils/recovery_gen.c, and GUC_scanstr of guc-file.l for the quoting.
 */

/** Read last of all configuration files: what is appended to it wins. */
export const AUTO_CONF_PATH = 'postgresql.auto.conf';

/** Empty files; the first makes a standby of a server, the second lets it recover and then serve. */
export const STANDBY_SIGNAL_PATH = 'standby.signal';
export const RECOVERY_SIGNAL_PATH = 'recovery.signal';

export interface ServerSetting {
  readonly name: string;
  readonly value: string;
}

/** Lines for a configuration file, one a setting. */
export function formatSettings(settings: readonly ServerSetting[]): string {
  return settings.map(({ name, value }) => `${name} = ${quoteSetting(value)}\n`).join('');
}

/** A value between single quotes; a configuration file knows backslash escapes, and no line breaks within quotes. */
function quoteSetting(value: string): string {
  const escaped = value
    .replaceAll(/['\\]/g, (character) => character + character)
    .replaceAll('\n', String.raw`\n`);
  return `'${escaped}'`;
}
