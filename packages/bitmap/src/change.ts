/** Changes to the list of an image's bitmaps, for those who make several of them at once, all or none. */
export type BitmapChange =
  /** A new bitmap, all clean. */
  | { readonly kind: 'add'; readonly name: string; readonly granularity: number; readonly enabled: boolean }
  /** Inconsistent ones too. */
  | { readonly kind: 'remove'; readonly name: string }
  | { readonly kind: 'rename'; readonly name: string; readonly to: string }
  | { readonly kind: 'set-enabled'; readonly name: string; readonly enabled: boolean };
