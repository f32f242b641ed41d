const paths = {
  attach: "M20 11.5 12.2 19a5 5 0 0 1-7-7L13 4.3a3.4 3.4 0 0 1 4.8 4.8l-7.7 7.6a1.8 1.8 0 0 1-2.5-2.5l7-7",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "M5 12.5 10 17.5 19 7",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  dislike:
    "M7 14V4M7 4h9.6c.9 0 1.7.6 1.9 1.5l1.4 6A2 2 0 0 1 18 14h-4l.6 4.2c.2 1-.6 1.8-1.6 1.8L9 14H4V4h3",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  export: "M12 15V4M8 8l4-4 4 4M5 14v5h14v-5",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  like: "M7 10v10M7 20h9.6c.9 0 1.7-.6 1.9-1.5l1.4-6A2 2 0 0 0 18 10h-4l.6-4.2C14.8 4.8 14 4 13 4L9 10H4v10h3",
  menu: "M4 7h16M4 12h16M4 17h16",
  more: "M5.500 12a.5.5 0 1 0 1 0 .5.5 0 0 0-1 0zM11.500 12a.5.5 0 1 0 1 0 .5.5 0 0 0-1 0zM17.500 12a.5.5 0 1 0 1 0 .5.5 0 0 0-1 0z",
  new: "M12 5v14M5 12h14",
  retry: "M19 12a7 7 0 1 1-2-4.9L19 9M19 4v5h-5",
  search: "M10.500 17a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13zM20 20l-4.900-4.900",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  temporary: "M12 7v5l3 2M4.500 9A8 8 0 1 1 4 12M4 5v4h4",
  web: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM3 12h18M12 3c5 5 5 13 0 18M12 3c-5 5-5 13 0 18",
  chevron: "M7 10l5 5 5-5",
} as const;

export type IconName = keyof typeof paths;

/** A drawing beside or instead of a text; never the only name of anything. */
export const Icon = ({ name }: { readonly name: IconName }) => (
  <svg className="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path d={paths[name]} />
  </svg>
);
