import { type DragEvent, type ReactNode, useRef, useState } from "react";

interface DropZoneProps {
  readonly className: string;
  readonly onFiles: (files: readonly File[]) => void;
  readonly children: ReactNode;
}

const carriesFiles = ({ dataTransfer }: DragEvent): boolean => dataTransfer.types.includes("Files");

/** Takes files that are dropped anywhere on it. */
export const DropZone = ({ className, onFiles, children }: DropZoneProps) => {
  const [over, setOver] = useState(false);
  const depth = useRef(0);
  const move = (event: DragEvent, step: number): void => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth.current += step;
    setOver(depth.current > 0);
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the button beside the text does the same by keyboard
    <div
      className={className}
      onDragEnter={(event) => move(event, 1)}
      onDragLeave={(event) => move(event, -1)}
      onDragOver={(event) => carriesFiles(event) && event.preventDefault()}
      onDrop={(event) => {
        if (!carriesFiles(event)) return;
        event.preventDefault();
        depth.current = 0;
        setOver(false);
        onFiles([...event.dataTransfer.files]);
      }}
    >
      {children}
      {over && <div className="drop-here">Drop files to attach them</div>}
    </div>
  );
};
