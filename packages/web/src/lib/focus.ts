/** On a phone or tablet; there a field that takes the focus brings up a keyboard over what one reads. */
export const touches = (): boolean => matchMedia("(pointer: coarse)").matches;

/** Into a field where one goes on writing, unless that would get in the way. */
export const focusField = (field: HTMLElement | null): void => {
  if (!touches()) field?.focus();
};
