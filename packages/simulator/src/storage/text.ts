/** The text of a file: of a PDF what its pages say, of anything else its bytes as UTF-8. */
export const readText = async (file: {
  readonly bytes: Buffer;
  readonly contentType: string;
}): Promise<string> =>
  /^application\/pdf/i.test(file.contentType) ? pdfText(file.bytes) : file.bytes.toString("utf8");

const pdfText = async (bytes: Buffer): Promise<string> => {
  try {
    // Loaded for the first PDF only: most simulators never see one.
    const { extractText } = await import("unpdf");
    const { text } = await extractText(new Uint8Array(bytes), { mergePages: true });
    return text;
  } catch {
    // No readable PDF: nothing in it will be found.
    return "";
  }
};
