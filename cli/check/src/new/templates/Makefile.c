# -O3: at -O2 gcc does not vectorise loops over any number of bytes.
CFLAGS ?= -O3 -Wall -Wextra
PLUGIN = lib@NAME@.so

# Made under another name and then renamed: a process that has loaded the old one keeps it as it is.
$(PLUGIN): @NAME@.c resay_plugin.h
	$(CC) -std=c99 $(CFLAGS) -shared -fPIC -fvisibility=hidden -o $@.new @NAME@.c $(LDFLAGS)
	mv $@.new $@

check: $(PLUGIN)
	resay plugin check ./$(PLUGIN)

clean:
	rm -f $(PLUGIN)

.PHONY: check clean
