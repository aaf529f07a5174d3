export function mount(root, { ui }) {
  root.append(ui.blank("Nothing to show yet", "Waiting for the first numbers of the run."));
  return { unmount() {} };
}
