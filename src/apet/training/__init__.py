"""One run: settings in, result out."""
