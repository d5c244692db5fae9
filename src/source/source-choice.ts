/* What --source may say; the command line asks for it before it loads any source. */

export const SOURCE_CHOICES = ['auto', 'walsender', 'sql'] as const;
export type SourceChoice = (typeof SOURCE_CHOICES)[number];
