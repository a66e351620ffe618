/* Two shared libraries, each with the archive in it: how many copies of Resay they use. */
#include <stdio.h>

void *left_resay(void);
void *right_resay(void);
int left_ask(const char *chain, const char *question, const char *expected);
int right_ask(const char *chain, const char *question, const char *expected);

int main(void)
{
  if (left_ask("uppercase", "hello", "HELLO") != 0 || right_ask("reverse", "abc", "cba") != 0) return 1;
  printf("%d\n", left_resay() == right_resay() ? 1 : 2);
  return 0;
}
