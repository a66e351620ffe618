// The header in C++, and that library and header belong together.
#include <resay.h>

int main()
{
  return resay_abi() == RESAY_ABI ? 0 : 1;
}
