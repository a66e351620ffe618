/* load FILE: opens a plugin as a host does, and maps standard input to standard output. */
#include <dlfcn.h>
#include <resay_plugin.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 1;
  resay_plugin_entry entry;
  void *symbol = dlsym(library, "resay_plugin_v1");
  if (!symbol) return fprintf(stderr, "%s\n", dlerror()), 1;
  memcpy(&entry, &symbol, sizeof entry);

  const resay_transform *transform = entry(RESAY_PLUGIN_ABI_MINOR)->transforms[0];
  void *instance = NULL;
  char text[128] = "";
  resay_text err = {text, sizeof text};
  if (transform->create && transform->create(transform, NULL, NULL, 0, &instance, &err) != RESAY_OK)
    return fprintf(stderr, "%s\n", text), 1;
  uint8_t data[4096];
  size_t len = fread(data, 1, sizeof data, stdin);
  resay_status status = transform->map(instance, NULL, data, len);
  fwrite(data, 1, len, stdout);
  if (transform->destroy) transform->destroy(instance);
  return status != RESAY_OK;
}
