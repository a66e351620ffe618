/* An echo server: the address is the argument, and without one it only shows that it could serve.
 *
 *   cc -Iinclude examples/c/echo.c -Ltarget/release -lresay -o echo
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./echo tcp://127.0.0.1:8888
 */
#include <resay.h>
#include <stdio.h>

int main(int argc, char **argv)
{
  resay_engine *engine;
  resay_error error;
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_listen(engine, argc > 1 ? argv[1] : "tcp://127.0.0.1:0", NULL, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  if (argc < 2) resay_stop(engine);
  while (resay_run(engine, -1) > 0) continue;
  resay_engine_free(engine);
  return 0;
}
