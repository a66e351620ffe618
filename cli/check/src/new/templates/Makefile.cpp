# -O3: at -O2 gcc does not vectorise loops over any number of bytes.
CXXFLAGS ?= -O3 -Wall -Wextra
PLUGIN = lib@NAME@.so

# Made under another name and then renamed: a process that has loaded the old one keeps it as it is.
$(PLUGIN): @NAME@.cpp resay_plugin.h resay_plugin.hpp exports.map
	$(CXX) -std=c++11 $(CXXFLAGS) -shared -fPIC -fvisibility=hidden -Wl,--version-script=exports.map -o $@.new @NAME@.cpp $(LDFLAGS)
	mv $@.new $@

check: $(PLUGIN)
	resay plugin check ./$(PLUGIN)

clean:
	rm -f $(PLUGIN)

.PHONY: check clean
