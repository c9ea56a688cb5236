/** The img command. */
export {};
