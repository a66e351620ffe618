/* Two libraries of Rust in one program, each with its own copy of Rust's standard library. */
#include "ask.h"

int other_answer(void);

int main(void)
{
  int before = other_answer(), asked = ask("uppercase", "hello", "HELLO"), after = other_answer();
  printf("%d %d %d\n", before, asked, after);
  return 0;
}
